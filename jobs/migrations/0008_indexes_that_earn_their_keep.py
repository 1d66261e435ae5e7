"""Indexes that nothing looks into are gone: each change of a replica's or a job's state writes a row anew, into all of its indexes.

Rows of jobs are never removed, so no index is needed to find what refers to them; where another index begins with the same column, one is
enough. `_like` is what Django makes beside each index of a text, for LIKE 'x%': nobody asks for a digest by its beginning.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

LIKE_INDEXES = (
    ("jobs_blob_digest_3db5db2f_like", "jobs_blob", "digest"),
    ("jobs_receipt_archive_id_537fcb95_like", "jobs_receipt", "archive_id"),
    ("jobs_receipt_digest_f83496c8_like", "jobs_receipt", "digest"),
    ("jobs_receipt_log_id_c43a7df0_like", "jobs_receipt", "log_id"),
)
LIKE_DROP = "".join(f"DROP INDEX {name};\n" for name, *_ in LIKE_INDEXES)
LIKE_MAKE = "".join(f"CREATE INDEX {name} ON {table} ({column} varchar_pattern_ops);\n" for name, table, column in LIKE_INDEXES)


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0007_envelopes_uncompressed"),
        ("nodes", "0003_node_keys"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="replica",
            name="replica_lease_request",
        ),
        migrations.AlterField(
            model_name="evidence",
            name="other",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="jobs.replica"
            ),
        ),
        migrations.AlterField(
            model_name="evidence",
            name="replica",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="evidence", to="jobs.replica"
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="canonical_replica",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobs.replica"
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="owner",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="spot_key",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to="jobs.spotkey"
            ),
        ),
        migrations.AlterField(
            model_name="jobevent",
            name="job",
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="events", to="jobs.job"),
        ),
        migrations.AlterField(
            model_name="jobevent",
            name="replica",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="jobs.replica"
            ),
        ),
        migrations.AlterField(
            model_name="replica",
            name="node",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="replicas", to="nodes.node"
            ),
        ),
        migrations.AlterField(
            model_name="replica",
            name="node_key",
            field=models.ForeignKey(
                blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="nodes.nodekey"
            ),
        ),
        migrations.AlterField(
            model_name="replica",
            name="node_owner",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(condition=models.Q(("spot_key__isnull", False)), fields=["spot_key"], name="job_of_spot_key"),
        ),
        migrations.AddIndex(
            model_name="replica",
            index=models.Index(
                condition=models.Q(("state__in", ["leased", "running"])), fields=["lease_request_id"], name="replica_lease_request"
            ),
        ),
        migrations.RunSQL(LIKE_DROP, reverse_sql=LIKE_MAKE),
    ]
