"""What the database itself refuses, and what it does by itself. Whoever writes rows, by whichever way:

1. History is not changed: no UPDATE, DELETE or TRUNCATE of what is in ledger/append_only.py.
2. An entry comes first, then its postings, then its item, which completes it: then its postings are at least two and sum to zero, its kind
   and key are the item's, and no posting can be added. That each entry has its item is checked at the commit (foreign key).
3. Balances follow from postings and from nothing else; only the treasury's is negative (check constraint). They are locked in the order of
   the accounts' ids, treasury and escrow first, so that transactions wait for each other and never deadlock.
4. An account has the owner that it was made for, until that person is forgotten: then it has none.
5. Entries and what they credit are counted by kind, when their item completes them: public pages show it, and must not sum for it. A
   kind's row is locked after the accounts, by kind; but for reversals, whoever wants it holds an account that others want first.
6. Each item waits for the log until a leaf holds it. Leaves have indexes without gaps. An item is as long as a leaf may be: a longer one
   could not be published, and would stop the log for ever.

Triggers run once a statement, over all of its rows: a transaction with thousands of postings updates each account once. They run as the
owner of the tables, so a role that posts needs INSERT on entries, postings and items, and nothing on balances or on what is pending.
Plans are kept from when the tables were small: the functions are written so that any plan looks up by index what was added.
"""

from django.db import migrations

TABLES = (
    "ledger_entry",
    "ledger_posting",
    "ledger_logitem",
    "ledger_logleaf",
    "ledger_checkpoint",
    "ledger_epoch",
    "ledger_coordinatorsuccession",
)

AS_OWNER = ("ledger_entries_check", "ledger_postings_apply", "ledger_items_take", "ledger_leaves_take")

FORWARD = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused; post a reversal instead', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION ledger_balance_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.balance_micro <> 0 THEN
        RAISE EXCEPTION 'account % must start at 0, not %; post an entry', NEW.id, NEW.balance_micro USING ERRCODE = 'restrict_violation';
    ELSIF TG_OP = 'UPDATE' AND NEW.kind <> OLD.kind THEN
        RAISE EXCEPTION 'account % is a % account for good', NEW.id, OLD.kind USING ERRCODE = 'restrict_violation';
    ELSIF TG_OP = 'UPDATE' AND NEW.owner_id IS NOT NULL AND NEW.owner_id IS DISTINCT FROM OLD.owner_id THEN
        RAISE EXCEPTION 'account % can be nobody else''s; forget its owner, or make another account', NEW.id
            USING ERRCODE = 'restrict_violation';
    ELSIF TG_OP = 'UPDATE' AND NEW.balance_micro <> OLD.balance_micro AND pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'the balance of account % follows from postings; post an entry', NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION ledger_entries_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    late bigint;
BEGIN
    SELECT id INTO late FROM ledger_logitem WHERE id = ANY (ARRAY(SELECT item_id FROM added)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'item % is in the log already; an entry comes before its item', late USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_postings_apply() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entries bigint[] := ARRAY(SELECT DISTINCT entry_id FROM added);
    late bigint;
    seen integer;
    moved record;
BEGIN
    SELECT id INTO late FROM ledger_logitem WHERE id = ANY (entries) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % is in the log already; post another entry', late USING ERRCODE = 'restrict_violation';
    END IF;
    -- An entry of a transaction that is not committed is not to be seen: nobody else can add to it, before its item is there or after.
    SELECT count(*) INTO seen FROM ledger_entry WHERE item_id = ANY (entries);
    IF seen <> cardinality(entries) THEN
        RAISE EXCEPTION 'of % entries only % are there; an entry comes before its postings', cardinality(entries), seen
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    FOR moved IN SELECT account_id, sum(amount_micro)::bigint AS total FROM added GROUP BY account_id ORDER BY account_id LOOP
        UPDATE ledger_account SET balance_micro = balance_micro + moved.total WHERE id = moved.account_id;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_items_take() RETURNS trigger LANGUAGE plpgsql AS $$
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
        WHERE CASE WHEN added.kind IN ('grant', 'reservation', 'payment', 'refund', 'reversal')
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
        SELECT added.kind, count(*) AS entries, sum(side.credited)::bigint AS credited FROM added
        CROSS JOIN LATERAL (SELECT sum(amount_micro) AS credited FROM ledger_posting WHERE entry_id = added.id AND amount_micro > 0) side
        WHERE side.credited IS NOT NULL GROUP BY added.kind ORDER BY added.kind
    LOOP
        UPDATE ledger_entrytotal SET entries = entries + counted.entries, credited_micro = credited_micro + counted.credited
            WHERE kind = counted.kind;
    END LOOP;
    INSERT INTO ledger_pendingitem (item_id) SELECT id FROM added;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_leaves_take() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first_index bigint;
    last_index bigint;
    leaves integer;
    taken integer;
BEGIN
    SELECT min(index), max(index), count(*) INTO first_index, last_index, leaves FROM added;
    IF last_index - first_index + 1 <> leaves
        OR (first_index > 0 AND NOT EXISTS (SELECT FROM ledger_logleaf WHERE index = first_index - 1)) THEN
        RAISE EXCEPTION 'leaves % to % leave a gap in the log', first_index, last_index USING ERRCODE = 'check_violation';
    END IF;
    DELETE FROM ledger_pendingitem WHERE item_id = ANY (ARRAY(SELECT item_id FROM added));
    GET DIAGNOSTICS taken = ROW_COUNT;
    IF taken <> leaves THEN
        RAISE EXCEPTION 'of % items only % were waiting for the log', leaves, taken USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER balance_guard BEFORE INSERT OR UPDATE ON ledger_account FOR EACH ROW EXECUTE FUNCTION ledger_balance_guard();
CREATE TRIGGER entries_check AFTER INSERT ON ledger_entry REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_check();
CREATE TRIGGER postings_apply AFTER INSERT ON ledger_posting REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_postings_apply();
CREATE TRIGGER items_take AFTER INSERT ON ledger_logitem REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_items_take();
CREATE TRIGGER leaves_take AFTER INSERT ON ledger_logleaf REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_leaves_take();

ALTER TABLE ledger_logitem ADD CONSTRAINT item_fits_a_bundle CHECK (octet_length(data) <= 65535);

INSERT INTO ledger_account (id, kind, balance_micro, created_at) VALUES
    ('00000000-0000-4000-8000-000000000001', 'treasury', 0, now()),
    ('00000000-0000-4000-8000-000000000002', 'escrow', 0, now());
INSERT INTO ledger_entrytotal (kind, entries, credited_micro)
    SELECT kind, 0, 0 FROM unnest(ARRAY['grant', 'reservation', 'payment', 'refund', 'reversal']) AS kind;
"""
FORWARD += "".join(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();\n"
    f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();\n"
    for table in TABLES
)
FORWARD += "".join(
    f"ALTER FUNCTION {function}() SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off;\n"
    for function in AS_OWNER
)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD)]
