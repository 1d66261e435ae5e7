"""Nodes, their keys, join tokens and samples; and who contributed how much, by day and by period."""

import uuid

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("people", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Node",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "owner",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="nodes", to=settings.AUTH_USER_MODEL),
                ),
                ("name", models.CharField(max_length=64)),
                ("public_key", models.BinaryField(max_length=32, unique=True)),
                ("key_id", models.CharField(max_length=71, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("active", "Active"),
                            ("paused", "Paused"),
                            ("draining", "Draining"),
                            ("quarantined", "Quarantined"),
                            ("revoked", "Revoked"),
                        ],
                        default="active",
                        max_length=16,
                    ),
                ),
                ("tier", models.CharField(max_length=16)),
                ("queues", models.JSONField(default=list)),
                ("profile", models.JSONField()),
                ("benchmark_gflops", models.FloatField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("last_seen_at", models.DateTimeField(blank=True, null=True)),
                ("last_no_work", models.JSONField(blank=True, null=True)),
                ("clone_seen_at", models.DateTimeField(blank=True, null=True)),
                ("clone_told_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tier", "last_seen_at"], name="nodes_node_tier_7d21a2_idx"),
                    models.Index(condition=models.Q(("clone_seen_at__isnull", False)), fields=["clone_seen_at"], name="node_clone_seen"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "revoked"), _negated=True), fields=("owner", "name"), name="node_name_unique_per_owner"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="NodeKey",
            fields=[
                ("key_id", models.CharField(max_length=71, primary_key=True, serialize=False)),
                ("node", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="keys", to="nodes.node")),
                ("public_key", models.BinaryField(max_length=32, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("retired_at", models.DateTimeField(blank=True, null=True)),
                (
                    "successor",
                    models.OneToOneField(
                        blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="predecessor", to="nodes.nodekey"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(condition=models.Q(("retired_at", None)), fields=("node",), name="node_key_one_current"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("retired_at", None), ("successor", None)),
                            models.Q(("retired_at__isnull", False), ("successor__isnull", False)),
                            _connector="OR",
                        ),
                        name="node_key_retired_has_successor",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JoinToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="join_tokens", to=settings.AUTH_USER_MODEL),
                ),
                ("secret_sha256", models.BinaryField(max_length=32, unique=True)),
                ("name", models.CharField(blank=True, max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "node",
                    models.OneToOneField(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="join_token", to="nodes.node"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="join_token_expiry")],
            },
        ),
        migrations.CreateModel(
            name="Workday",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="workdays", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("day", models.DateField()),
                ("science", models.CharField(max_length=64)),
                ("accepted", models.PositiveIntegerField()),
                ("rejected", models.PositiveIntegerField()),
                ("work_micro", models.BigIntegerField()),
                ("paid_micro", models.BigIntegerField()),
                ("due_on", models.DateField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("due_on__isnull", False)), fields=["due_on"], name="workday_due")],
                "constraints": [models.UniqueConstraint(fields=("owner", "day", "science"), name="workday_unique")],
            },
        ),
        migrations.CreateModel(
            name="Standing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="standings", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("period_days", models.PositiveSmallIntegerField()),
                ("science", models.CharField(max_length=64)),
                ("accepted", models.BigIntegerField()),
                ("rejected", models.BigIntegerField()),
                ("work_micro", models.BigIntegerField()),
                ("paid_micro", models.BigIntegerField()),
                ("since", models.DateField()),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="people.team",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["period_days", "science", "-work_micro", "owner"], name="standing_rank")],
                "constraints": [models.UniqueConstraint(fields=("owner", "period_days", "science"), name="standing_unique")],
            },
        ),
        migrations.CreateModel(
            name="TeamStanding",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "team_id", "period_days", "science", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="people.team",
                    ),
                ),
                ("period_days", models.PositiveSmallIntegerField()),
                ("science", models.CharField(max_length=64)),
                ("members", models.BigIntegerField()),
                ("accepted", models.BigIntegerField()),
                ("rejected", models.BigIntegerField()),
                ("work_micro", models.BigIntegerField()),
                ("paid_micro", models.BigIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["period_days", "science", "-work_micro", "team"], name="team_standing_rank")],
            },
        ),
        migrations.CreateModel(
            name="WallTotal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("period_days", models.PositiveSmallIntegerField()),
                ("science", models.CharField(max_length=64)),
                ("contributors", models.BigIntegerField()),
                ("work_micro", models.BigIntegerField()),
                ("paid_micro", models.BigIntegerField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("period_days", "science"), name="wall_total_unique")],
            },
        ),
        migrations.CreateModel(
            name="NodeSample",
            fields=[
                ("pk", models.CompositePrimaryKey("node_id", "minute_at", blank=True, editable=False, primary_key=True, serialize=False)),
                (
                    "node",
                    models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="samples", to="nodes.node"),
                ),
                ("minute_at", models.DateTimeField()),
                ("cpu_percent", models.FloatField(null=True)),
                ("memory_percent", models.FloatField(null=True)),
                ("gpu_percent", models.FloatField(null=True)),
                ("cpu_celsius", models.FloatField(null=True)),
                ("gpu_celsius", models.FloatField(null=True)),
            ],
            options={
                "indexes": [django.contrib.postgres.indexes.BrinIndex(fields=["minute_at"], name="node_sample_minute")],
            },
        ),
    ]
