"""What the database itself refuses, and what it does by itself. Whoever writes rows, by whichever way:

1. History is not changed: no UPDATE, DELETE or TRUNCATE of what is in ledger/append_only.py.
2. An entry comes first, then its postings, then its item, which completes it: then its postings are at least two and sum to zero, its kind
   and key are the item's, and no posting can be added. That each entry has its item is checked at the commit (foreign key).
3. Balances follow from postings and from nothing else; only the treasury's is negative (check constraint). They are locked in one order,
   treasury before escrow before people, so that transactions wait for each other and never deadlock.
4. Each item waits for the log until a leaf holds it. Leaves have indexes without gaps.

Triggers run once a statement, over all of its rows: a transaction with thousands of postings updates each account once. They run as the
owner of the tables, so a role that posts needs INSERT on entries, postings and items, and nothing on balances or on what is pending.
Plans are kept from when the tables were small: each function forces look-ups by index, whatever the tables' size was then.
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
    ELSIF TG_OP = 'UPDATE' AND NEW.balance_micro <> OLD.balance_micro AND pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'the balance of account % follows from postings; post an entry', NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION ledger_entries_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    late bigint;
BEGIN
    SELECT added.item_id INTO late FROM added JOIN ledger_logitem item ON item.id = added.item_id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'item % is in the log already; an entry comes before its item', late USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_postings_apply() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    -- An entry of a transaction that is not committed is not to be seen, so nobody else can add to it before its item is.
    SELECT added.entry_id, item.id AS item_id INTO wrong FROM added
        LEFT JOIN ledger_entry entry ON entry.item_id = added.entry_id LEFT JOIN ledger_logitem item ON item.id = added.entry_id
        WHERE entry.item_id IS NULL OR item.id IS NOT NULL LIMIT 1;
    IF FOUND AND wrong.item_id IS NOT NULL THEN
        RAISE EXCEPTION 'entry % is in the log already; post another entry', wrong.entry_id USING ERRCODE = 'restrict_violation';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'there is no entry %; it comes before its postings', wrong.entry_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    PERFORM FROM ledger_account WHERE id IN (SELECT account_id FROM added)
        ORDER BY CASE kind WHEN 'treasury' THEN 0 WHEN 'escrow' THEN 1 ELSE 2 END, id FOR NO KEY UPDATE;
    UPDATE ledger_account SET balance_micro = balance_micro + moved.total
        FROM (SELECT account_id, sum(amount_micro)::bigint AS total FROM added GROUP BY account_id) moved
        WHERE id = moved.account_id AND moved.total <> 0;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_items_take() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT added.id, count(posting.id) AS sides, coalesce(sum(posting.amount_micro), 0) AS total INTO wrong
        FROM added JOIN ledger_entry entry ON entry.item_id = added.id LEFT JOIN ledger_posting posting ON posting.entry_id = added.id
        GROUP BY added.id HAVING count(posting.id) < 2 OR sum(posting.amount_micro) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % has % postings that sum to %; expected at least 2 that sum to 0', wrong.id, wrong.sides, wrong.total
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT added.id, added.kind, added.key INTO wrong FROM added LEFT JOIN ledger_entry entry ON entry.item_id = added.id
        WHERE CASE WHEN added.kind IN ('grant', 'reservation', 'payment', 'refund', 'reversal')
            THEN entry.item_id IS NULL OR entry.kind <> added.kind OR entry.idempotency_key <> added.key
            ELSE entry.item_id IS NOT NULL END
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'item % (% %) is not that of an entry as its kind says', wrong.id, wrong.kind, wrong.key
            USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO ledger_pendingitem (item_id) SELECT id FROM added;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_leaves_take() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first_index bigint;
    last_index bigint;
    leaves bigint;
    taken bigint;
BEGIN
    SELECT min(index), max(index), count(*) INTO first_index, last_index, leaves FROM added;
    IF leaves = 0 THEN
        RETURN NULL;
    END IF;
    IF last_index - first_index + 1 <> leaves
        OR (first_index > 0 AND NOT EXISTS (SELECT FROM ledger_logleaf WHERE index = first_index - 1)) THEN
        RAISE EXCEPTION 'leaves % to % leave a gap in the log', first_index, last_index USING ERRCODE = 'check_violation';
    END IF;
    DELETE FROM ledger_pendingitem pending USING added WHERE pending.item_id = added.item_id;
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

INSERT INTO ledger_account (id, kind, balance_micro, created_at) VALUES
    ('00000000-0000-4000-8000-000000000001', 'treasury', 0, now()),
    ('00000000-0000-4000-8000-000000000002', 'escrow', 0, now());
"""
FORWARD += "".join(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();\n"
    f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();\n"
    for table in TABLES
)
FORWARD += "".join(
    f"ALTER FUNCTION {function}() SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp"
    " SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;\n"
    for function in AS_OWNER
)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD)]
