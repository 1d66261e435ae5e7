"""New jobs have ids that begin with the time; old ones keep theirs."""

from django.db import migrations, models

import jobs.timed_ids


class Migration(migrations.Migration):
    dependencies = [("jobs", "0011_outbox_of_writes")]

    operations = [
        migrations.AlterField(
            "job", "id", models.UUIDField(default=jobs.timed_ids.timed_id_make, editable=False, primary_key=True, serialize=False)
        )
    ]
