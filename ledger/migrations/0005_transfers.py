"""Transfers between people, a kind of entry of their own. `ledger_items_take` is that of migration 0004 but for the kind."""

from django.db import migrations, models

TAKE = """
CREATE OR REPLACE FUNCTION ledger_items_take() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
    counted record;
BEGIN
    -- OFFSET 0 keeps the sub-selects apart: each is a look-up for a row that was added, never the other way round.
    SELECT added.id, added.kind, added.key, side.count, side.total, entry.key IS NOT NULL AS has_entry INTO wrong FROM added
        LEFT JOIN LATERAL (SELECT kind, idempotency_key AS key FROM ledger_entry WHERE item_id = added.id OFFSET 0) entry ON true
        LEFT JOIN LATERAL
            (SELECT count(*) AS count, coalesce(sum(amount_micro), 0) AS total FROM ledger_posting WHERE entry_id = added.id OFFSET 0) side
            ON true
        WHERE CASE WHEN added.kind IN ('grant', 'reservation', 'payment', 'refund', 'transfer', 'reversal')
            THEN entry.kind IS DISTINCT FROM added.kind OR entry.key IS DISTINCT FROM added.key OR side.count < 2 OR side.total <> 0
            ELSE entry.key IS NOT NULL END
        LIMIT 1;
    IF FOUND AND wrong.has_entry AND (wrong.count < 2 OR wrong.total <> 0) THEN
        RAISE EXCEPTION 'entry % has % postings that sum to %; expected at least 2 that sum to 0', wrong.id, wrong.count, wrong.total
            USING ERRCODE = 'check_violation';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'item % (% %) is not that of an entry as its kind says', wrong.id, wrong.kind, wrong.key
            USING ERRCODE = 'check_violation';
    END IF;
    FOR counted IN
        SELECT added.kind, count(*) AS entries, coalesce(sum(side.credited), 0)::bigint AS credited FROM added
        CROSS JOIN LATERAL
            (SELECT count(*) AS postings, sum(amount_micro) FILTER (WHERE account_id <> '00000000-0000-4000-8000-000000000001') AS credited
             FROM ledger_posting WHERE entry_id = added.id AND amount_micro > 0) side
        WHERE side.postings > 0 GROUP BY added.kind ORDER BY added.kind
    LOOP
        UPDATE ledger_entrytotal SET entries = entries + counted.entries, credited_micro = credited_micro + counted.credited
            WHERE kind = counted.kind;
    END LOOP;
    INSERT INTO ledger_pendingitem (item_id) SELECT id FROM added;
    RETURN NULL;
END $$;
ALTER FUNCTION ledger_items_take() SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off;
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
        migrations.RunSQL(TAKE),
    ]
