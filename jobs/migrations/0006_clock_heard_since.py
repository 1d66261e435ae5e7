"""The portal remembers when it could be heard again: nodes are not called silent right after an outage."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_cheaper_rows")]
    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '5s'", migrations.RunSQL.noop),
        migrations.AddField("coordinatorclock", "heard_since", models.DateTimeField(blank=True, null=True)),
    ]
