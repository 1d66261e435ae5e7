"""Finds the newest transfers among all entries. Built beside writes: the table may be large."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("ledger", "0005_transfers")]
    operations = [
        # Of a run that was broken off there is one that PostgreSQL does not use, and that would be in the way.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS entry_transfers", migrations.RunSQL.noop),
        AddIndexConcurrently("entry", models.Index(condition=models.Q(kind="transfer"), fields=["created_at"], name="entry_transfers")),
    ]
