"""A kind's total is a number without a bound. What one job reserves comes back and is reserved again: after millions of cancelled jobs, whose
sums are all that the treasury ever granted, 64 bits would be full, and no refund could be written any more.

`ledger_items_take` is left as it is but for a cast.
"""

from django.db import migrations, models

TAKE_WITHOUT_CAST = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('ledger_items_take'::regproc), '::bigint', '');
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0006_recent_transfers")]
    operations = [
        migrations.AlterField("entrytotal", "credited_micro", models.DecimalField(decimal_places=0, default=0, max_digits=38)),
        migrations.RunSQL(TAKE_WITHOUT_CAST),
    ]
