"""What Django makes for LIKE 'x%' beside the index of a unique text costs as much as that one, and nobody asks for keys by their beginning."""

from django.db import migrations

INDEXES = (
    ("ledger_entry_idempotency_key_d7fe082d_like", "ledger_entry", "idempotency_key"),
    ("ledger_logitem_key_3f3f7bed_like", "ledger_logitem", "key"),
)
DROP = "".join(f"DROP INDEX {name};\n" for name, *_ in INDEXES)
MAKE = "".join(f"CREATE INDEX {name} ON {table} ({column} varchar_pattern_ops);\n" for name, table, column in INDEXES)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_entry_plural")]

    operations = [migrations.RunSQL(DROP, reverse_sql=MAKE)]
