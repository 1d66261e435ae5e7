"""Finds the newest transfers among all entries. Built beside writes: the table may be large."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("ledger", "0005_transfers")]
    operations = [
        AddIndexConcurrently("entry", models.Index(condition=models.Q(kind="transfer"), fields=["created_at"], name="entry_transfers")),
    ]
