"""Signed envelopes and small blobs are stored as they are: base64 gains little, and compressing costs as much as writing the row."""

from django.db import migrations

COLUMNS = (("jobs_replica", "order_envelope"), ("jobs_receipt", "envelope"), ("jobs_blob", "data"))
FORWARD = "".join(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL;\n" for table, column in COLUMNS)
BACK = "".join(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTENDED;\n" for table, column in COLUMNS)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0006_spot_keys_and_breakers")]

    operations = [migrations.RunSQL(FORWARD, reverse_sql=BACK)]
