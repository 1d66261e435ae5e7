"""Kinds of jobs: what contributors choose by, so that a claim with wishes looks only into the queues that it wishes for."""

import django.db.models.deletion
from django.db import migrations, models

FILL = """
INSERT INTO jobs_jobkind (image_name, job_type, credit_rate_micro)
SELECT DISTINCT image->>'name', job_type, credit_rate_micro FROM jobs_job;
UPDATE jobs_replica r SET kind_id = k.id
FROM jobs_job j JOIN jobs_jobkind k
  ON (k.image_name, k.job_type, k.credit_rate_micro) = (j.image->>'name', j.job_type, j.credit_rate_micro)
WHERE j.id = r.job_id;
"""


def kind(**null):
    return models.ForeignKey("jobs.jobkind", db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", **null)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_node_keys")]

    operations = [
        migrations.CreateModel(
            name="JobKind",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("image_name", models.CharField(max_length=255)),
                ("job_type", models.CharField(max_length=64)),
                ("credit_rate_micro", models.BigIntegerField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("image_name", "job_type", "credit_rate_micro"), name="job_kind_unique")]
            },
        ),
        migrations.AddField("replica", "kind", kind(null=True)),
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
        migrations.AlterField("replica", "kind", kind()),
        migrations.AddIndex(
            model_name="replica",
            index=models.Index(
                condition=models.Q(("state", "queued")),
                fields=["tier", "kind", "-priority", "created_at", "id"],
                name="replica_queue_of_kind",
            ),
        ),
    ]
