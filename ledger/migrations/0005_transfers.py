"""Transfers between people, a kind of entry of their own. `ledger_items_take` is left as it is but for the list of kinds."""

from django.db import migrations, models

TAKE_THEM_TOO = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('ledger_items_take'::regproc), '''refund'', ''reversal''', '''refund'', ''transfer'', ''reversal''');
END $$;
INSERT INTO ledger_entrytotal (kind, entries, credited_micro) VALUES ('transfer', 0, 0);
"""

KINDS = [
    ("grant", "Grant"),
    ("reservation", "Reservation"),
    ("payment", "Payment"),
    ("refund", "Refund"),
    ("transfer", "Transfer"),
    ("reversal", "Reversal"),
]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_totals_of_what_people_hold")]
    operations = [
        migrations.AlterField("entry", "kind", models.CharField(choices=KINDS, max_length=16)),
        migrations.AlterField("entrytotal", "kind", models.CharField(choices=KINDS, max_length=16, primary_key=True, serialize=False)),
        migrations.RunSQL(TAKE_THEM_TOO),
    ]
