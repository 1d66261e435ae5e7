"""What makes writing a row cheaper, and what Django has no word for.

1. Signed envelopes and small blobs are stored as they are: base64 gains little, and compressing costs as much as writing the row.
2. No `_like` indexes, which Django makes beside each index of a text, for LIKE 'x%': nobody asks for a digest by its beginning.
"""

from django.db import migrations

COLUMNS = (("jobs_replica", "order_envelope"), ("jobs_receipt", "envelope"), ("jobs_blob", "data"))
LIKE_INDEXES = (
    "jobs_blob_digest_3db5db2f_like",
    "jobs_receipt_archive_id_537fcb95_like",
    "jobs_receipt_digest_f83496c8_like",
    "jobs_receipt_log_id_c43a7df0_like",
)
FORWARD = "".join(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL;\n" for table, column in COLUMNS)
FORWARD += "".join(f"DROP INDEX {name};\n" for name in LIKE_INDEXES)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_outbox_of_writes")]
    operations = [migrations.RunSQL(FORWARD)]
