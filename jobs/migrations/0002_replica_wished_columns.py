"""What contributors choose by (image, type, rate) beside what hosts must have, so that a claim still reads one table."""

from django.db import migrations, models

FILL = """
UPDATE jobs_replica r SET job_type = j.job_type, image_name = j.image->>'name', credit_rate_micro = j.credit_rate_micro
FROM jobs_job j WHERE j.id = r.job_id
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.AddField("replica", "job_type", models.CharField(max_length=64, default=""), preserve_default=False),
        migrations.AddField("replica", "image_name", models.CharField(max_length=255, default=""), preserve_default=False),
        migrations.AddField("replica", "credit_rate_micro", models.BigIntegerField(default=0), preserve_default=False),
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
    ]
