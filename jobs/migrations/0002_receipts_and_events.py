"""What is known of a replica's work: uploads, receipts, evidence, rulings; and what is told of jobs.

An event refers to its job and replica without a foreign key: events come by the thousand, and rows of jobs are never removed.
"""

import uuid

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Receipt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("replica", models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="receipt", to="jobs.replica")),
                ("envelope", models.BinaryField()),
                ("digest", models.CharField(max_length=71, unique=True)),
                ("predicate", models.JSONField()),
                ("archive", models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.blob")),
                ("log", models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.blob")),
                ("result_digest", models.CharField(blank=True, max_length=71)),
                ("received_at", models.DateTimeField(auto_now_add=True)),
                ("late", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="NodeExchange",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name="+", serialize=False, to="nodes.node"
                    ),
                ),
                ("request_id", models.UUIDField()),
                ("session_id", models.UUIDField()),
                ("session_began_at", models.BigIntegerField()),
                ("superseded", models.JSONField(default=dict)),
            ],
        ),
        migrations.CreateModel(
            name="Upload",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "replica",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="uploads", to="jobs.replica"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploads",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("digest", models.CharField(max_length=71)),
                ("size_bytes", models.BigIntegerField()),
                ("offset_bytes", models.BigIntegerField(default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("committed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("committed_at__isnull", False)), fields=["digest"], name="upload_of_blob"),
                    models.Index(condition=models.Q(("committed_at__isnull", False)), fields=["committed_at"], name="upload_committed"),
                    models.Index(condition=models.Q(("committed_at", None)), fields=["created_at"], name="upload_unfinished"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("replica__isnull", False), ("user__isnull", False), _connector="XOR"),
                        name="upload_has_one_uploader",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("replica__isnull", False)), fields=("replica", "digest"), name="upload_unique_per_replica"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("user__isnull", False)), fields=("user", "digest"), name="upload_unique_per_user"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="VerificationBatch",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("job_ids", models.JSONField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Evidence",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "replica",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="evidence", to="jobs.replica"
                    ),
                ),
                (
                    "other",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="jobs.replica",
                    ),
                ),
                ("check_name", models.CharField(max_length=32)),
                ("passed", models.BooleanField(null=True)),
                ("code", models.CharField(blank=True, max_length=64)),
                ("detail", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("replica", "check_name", "other"), name="evidence_unique", nulls_distinct=False)
                ],
            },
        ),
        migrations.CreateModel(
            name="Ruling",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("job", models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="ruling", to="jobs.job")),
                (
                    "by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "canonical",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.replica"
                    ),
                ),
                ("reason", models.TextField()),
                ("made_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="JobEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="jobs.job",
                    ),
                ),
                (
                    "replica",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="jobs.replica",
                    ),
                ),
                ("kind", models.CharField(max_length=32)),
                ("payload", models.JSONField(default=dict)),
                ("public", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["job", "id"], name="jobs_jobeve_job_id_95f7be_idx"),
                    models.Index(
                        condition=models.Q(("kind__in", ["job.cancelled", "job.completed", "job.failed"])),
                        fields=["kind", "created_at"],
                        name="job_event_conclusions",
                    ),
                    django.contrib.postgres.indexes.BrinIndex(fields=["created_at"], name="job_event_created", pages_per_range=16),
                ],
            },
        ),
        migrations.CreateModel(
            name="UnpushedEvents",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("events", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
            ],
        ),
    ]
