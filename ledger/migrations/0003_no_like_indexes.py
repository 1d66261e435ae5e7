"""What Django makes for LIKE 'x%' beside the index of a unique text costs as much as that one, and nobody asks for keys by their beginning."""

from django.db import migrations

INDEXES = ("ledger_entry_idempotency_key_d7fe082d_like", "ledger_logitem_key_3f3f7bed_like")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_append_only")]
    operations = [migrations.RunSQL("".join(f"DROP INDEX {name};\n" for name in INDEXES))]
