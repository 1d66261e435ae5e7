"""Nodes are found by how their names begin, which a plain index of text is no help with."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0002_team_standings"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="node",
            index=models.Index(fields=["name"], name="node_name_begins", opclasses=["varchar_pattern_ops"]),
        ),
    ]
