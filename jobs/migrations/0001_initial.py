"""Jobs, their replicas, and what these need: blobs, inputs, kinds, images, spot keys.

A replica is written some five times, each time into every index that it is in: an index has to be worth that. Rows of jobs are never
removed, so no index is needed to find what refers to them (`db_index=False`), nor where another index begins with the same column.
Index names with a hash are Django's.
"""

import uuid

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

import jobs.timed_ids


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("nodes", "0001_initial"),
        ("people", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Blob",
            fields=[
                ("digest", models.CharField(max_length=71, primary_key=True, serialize=False)),
                ("size_bytes", models.BigIntegerField()),
                ("data", models.BinaryField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("unwanted_since", models.DateTimeField(blank=True, null=True)),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("removed_at", None), models.Q(("data", None), ("unwanted_since__isnull", False)), _connector="OR"
                        ),
                        name="blob_removed_has_no_bytes",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SpotKey",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("secret", models.BinaryField(max_length=32)),
                ("made_at", models.DateTimeField()),
                ("published_at", models.DateTimeField(blank=True, null=True)),
                ("ends_at", models.DateTimeField()),
                ("revealed_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.UUIDField(default=jobs.timed_ids.timed_id_make, editable=False, primary_key=True, serialize=False)),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("label", models.CharField(max_length=128)),
                ("title", models.CharField(blank=True, max_length=200)),
                ("job_type", models.CharField(max_length=64)),
                ("descriptor", models.JSONField()),
                ("descriptor_digest", models.CharField(max_length=71)),
                ("image", models.JSONField()),
                ("tier", models.CharField(max_length=16)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("running", "running"),
                            ("verifying", "verifying"),
                            ("completed", "completed"),
                            ("failed", "failed"),
                            ("disputed", "disputed"),
                            ("cancelled", "cancelled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("was_taken", models.BooleanField(default=False)),
                (
                    "shown_state",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Case(
                            models.When(
                                models.Q(
                                    ("state__in", ["queued", "running", "verifying"]),
                                    models.Q(("policy", "spot"), ("copies__gt", 1), _connector="OR"),
                                    ("was_taken", True),
                                ),
                                then=models.Value("running"),
                            ),
                            models.When(
                                models.Q(
                                    ("state__in", ["queued", "running", "verifying"]),
                                    models.Q(("policy", "spot"), ("copies__gt", 1), _connector="OR"),
                                ),
                                then=models.Value("queued"),
                            ),
                            default=models.F("state"),
                        ),
                        output_field=models.CharField(max_length=16),
                    ),
                ),
                ("is_archived", models.BooleanField(default=False)),
                ("is_kept", models.BooleanField(default=False)),
                (
                    "visibility",
                    models.CharField(
                        choices=[("private", "private"), ("unlisted", "unlisted"), ("public", "public")], default="private", max_length=16
                    ),
                ),
                ("link_secret", models.CharField(blank=True, max_length=43)),
                (
                    "words",
                    models.GeneratedField(
                        db_persist=True,
                        expression=django.contrib.postgres.search.SearchVector(
                            models.Func(
                                django.db.models.functions.text.Concat("label", models.Value(" "), "title"),
                                models.Value("-_.,:;+/@()"),
                                models.Value("           "),
                                function="translate",
                                output_field=models.TextField(),
                            ),
                            config="simple",
                        ),
                        output_field=django.contrib.postgres.search.SearchVectorField(),
                    ),
                ),
                ("priority", models.SmallIntegerField(default=0)),
                ("copies", models.PositiveSmallIntegerField()),
                ("quorum", models.PositiveSmallIntegerField()),
                ("policy", models.CharField(default="fixed", max_length=16)),
                ("spot_share", models.FloatField(blank=True, null=True)),
                (
                    "spot_key",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="jobs.spotkey",
                    ),
                ),
                ("spot_chosen", models.BooleanField(blank=True, null=True)),
                ("replicas_max", models.PositiveSmallIntegerField()),
                ("estimated_flops", models.FloatField()),
                ("credit_rate_micro", models.BigIntegerField()),
                ("reserved_micro", models.BigIntegerField(default=0)),
                ("submitted_at", models.DateTimeField(auto_now_add=True)),
                ("queue_deadline_at", models.DateTimeField()),
                ("dispute_deadline_at", models.DateTimeField(blank=True, null=True)),
                ("concluded_at", models.DateTimeField(blank=True, null=True)),
                ("failure_code", models.CharField(blank=True, max_length=64)),
                ("failure_message", models.TextField(blank=True)),
                ("verdict_summary", models.JSONField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["owner", "is_archived", "-submitted_at", "-id"], name="job_listed"),
                    models.Index(
                        fields=["owner", "is_archived", "shown_state", "job_type", "tier", "-submitted_at", "-id"],
                        name="job_listed_by_group",
                    ),
                    django.contrib.postgres.indexes.GinIndex(fields=["words"], name="job_words"),
                    models.Index(condition=models.Q(("state", "queued")), fields=["queue_deadline_at"], name="job_queued_deadline"),
                    models.Index(condition=models.Q(("state", "disputed")), fields=["dispute_deadline_at"], name="job_dispute_deadline"),
                    models.Index(condition=models.Q(("spot_key__isnull", False)), fields=["spot_key"], name="job_of_spot_key"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("owner", "label"), name="job_label_unique_per_owner"),
                    models.UniqueConstraint(
                        condition=models.Q(("link_secret", ""), _negated=True), fields=("link_secret",), name="job_link_secret_unique"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JobInput",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("job", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="inputs", to="jobs.job")),
                ("path", models.CharField(max_length=255)),
                ("blob", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.blob")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("job", "path"), name="job_input_path_unique")],
            },
        ),
        migrations.CreateModel(
            name="JobKind",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("image_name", models.CharField(max_length=255)),
                ("job_type", models.CharField(max_length=64)),
                ("credit_rate_micro", models.BigIntegerField()),
                ("closed_until", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("image_name", "job_type", "credit_rate_micro"), name="job_kind_unique")],
            },
        ),
        migrations.CreateModel(
            name="ImageBreaker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("image_name", models.CharField(max_length=255, unique=True)),
                ("closed_at", models.DateTimeField()),
                ("closed_until", models.DateTimeField()),
                ("times", models.PositiveSmallIntegerField()),
                ("code", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="Replica",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("job", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="replicas", to="jobs.job")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("leased", "leased"),
                            ("running", "running"),
                            ("reported", "reported"),
                            ("accepted", "accepted"),
                            ("rejected", "rejected"),
                            ("expired", "expired"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("tier", models.CharField(max_length=16)),
                ("priority", models.SmallIntegerField(default=0)),
                ("cpus", models.FloatField()),
                ("memory_bytes", models.BigIntegerField()),
                ("disk_bytes", models.BigIntegerField()),
                ("gpus", models.PositiveSmallIntegerField(default=0)),
                ("gpu_memory_bytes", models.BigIntegerField(default=0)),
                (
                    "kind",
                    models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.jobkind"),
                ),
                ("queue_key", models.UUIDField(blank=True, null=True)),
                (
                    "barred",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), blank=True, default=list, size=None),
                ),
                (
                    "failed_nodes",
                    django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None),
                ),
                (
                    "node",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="replicas",
                        to="nodes.node",
                    ),
                ),
                (
                    "node_key",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="nodes.nodekey",
                    ),
                ),
                (
                    "node_owner",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("lease_id", models.UUIDField(blank=True, null=True, unique=True)),
                ("lease_request_id", models.UUIDField(blank=True, null=True)),
                ("leased_at", models.DateTimeField(blank=True, null=True)),
                ("lease_expires_at", models.DateTimeField(blank=True, null=True)),
                ("deadline_at", models.DateTimeField(blank=True, null=True)),
                ("order_envelope", models.BinaryField(blank=True, null=True)),
                ("order_digest", models.CharField(blank=True, max_length=71)),
                ("cancel_reason", models.CharField(blank=True, max_length=200)),
                ("progress", models.JSONField(blank=True, null=True)),
                ("verify_claimed_until", models.DateTimeField(blank=True, null=True)),
                ("verdict", models.CharField(blank=True, max_length=16)),
                ("paid_micro", models.BigIntegerField(default=0)),
                ("failure_code", models.CharField(blank=True, max_length=64)),
                ("failure_message", models.TextField(blank=True)),
                ("concluded_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("queue_key__isnull", False), ("state", "queued")),
                        fields=["tier", "-priority", "created_at", "id"],
                        name="replica_queue",
                    ),
                    models.Index(
                        condition=models.Q(("queue_key__isnull", False), ("state", "queued")),
                        fields=["tier", "queue_key", "-priority", "created_at", "id"],
                        name="replica_queue_class",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["leased", "running"])), fields=["lease_expires_at"], name="replica_lease_expiry"
                    ),
                    models.Index(condition=models.Q(("state", "reported")), fields=["verify_claimed_until"], name="replica_to_verify"),
                    models.Index(fields=["node", "state"], name="jobs_replic_node_id_5a89cc_idx"),
                    models.Index(
                        condition=models.Q(("state__in", ["accepted", "cancelled", "expired", "failed", "rejected", "reported"])),
                        fields=["node", "-leased_at", "-id"],
                        name="replica_history_of_node",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["failed", "accepted"])),
                        fields=["kind", "concluded_at"],
                        name="replica_outcome_of_kind",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["leased", "running"])), fields=["lease_request_id"], name="replica_lease_request"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["accepted", "leased", "rejected", "reported", "running"])),
                        fields=("job", "node_owner"),
                        name="replica_one_live_or_vote_per_owner",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["queued", "cancelled"]),
                            models.Q(("lease_id__isnull", False), ("node__isnull", False), ("node_owner__isnull", False)),
                            _connector="OR",
                        ),
                        name="replica_taken_has_node",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ImageApproval",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255, unique=True)),
                ("pull", models.CharField(blank=True, max_length=400)),
                ("image_id", models.CharField(blank=True, max_length=71)),
                (
                    "approved_by",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("approved_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Calibration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("image_key", models.CharField(max_length=400)),
                ("job_type", models.CharField(max_length=64)),
                ("log_ratio_sum", models.FloatField(default=0)),
                ("count", models.PositiveIntegerField(default=0)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("image_key", "job_type"), name="calibration_unique")],
            },
        ),
        migrations.CreateModel(
            name="CoordinatorClock",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ("alive_at", models.DateTimeField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="coordinator_clock_single_row")],
            },
        ),
        migrations.CreateModel(
            name="ImageRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255)),
                ("asked_by", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL)),
                ("purpose", models.TextField(max_length=2000)),
                ("asked_at", models.DateTimeField(auto_now_add=True)),
                ("is_approved", models.BooleanField(null=True)),
                ("reason", models.TextField(blank=True, max_length=2000)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("is_approved", None)), fields=["asked_at"], name="image_request_open")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_approved", None)), fields=("asked_by", "name"), name="image_request_one_open"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("decided_at", None), ("is_approved", None)),
                            models.Q(("decided_at__isnull", False), ("is_approved__isnull", False)),
                            _connector="OR",
                        ),
                        name="image_request_decided",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="job",
            name="canonical_replica",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.replica"
            ),
        ),
    ]
