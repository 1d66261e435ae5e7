"""What the database itself refuses: changing history, unbalanced entries, balances that don't follow from postings."""

from django.db import migrations

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

CREATE FUNCTION ledger_posting_apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger_pendingentry WHERE entry_id = NEW.entry_id) THEN
        RAISE EXCEPTION 'entry % is in the log already; post another entry', NEW.entry_id USING ERRCODE = 'restrict_violation';
    END IF;
    UPDATE ledger_account SET balance_micro = balance_micro + NEW.amount_micro WHERE id = NEW.account_id;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_entry_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total numeric;
    sides integer;
BEGIN
    SELECT coalesce(sum(amount_micro), 0), count(*) INTO total, sides FROM ledger_posting WHERE entry_id = NEW.id;
    IF total <> 0 OR sides < 2 THEN
        RAISE EXCEPTION 'entry % has % postings that sum to %; expected at least 2 that sum to 0', NEW.id, sides, total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_posting_entry_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total numeric;
BEGIN
    SELECT coalesce(sum(amount_micro), 0) INTO total FROM ledger_posting WHERE entry_id = NEW.entry_id;
    IF total <> 0 THEN
        RAISE EXCEPTION 'entry % has postings that sum to %; expected 0', NEW.entry_id, total USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_entry_pend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_pendingentry (entry_id) VALUES (NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER entry_pend AFTER INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION ledger_entry_pend();
CREATE TRIGGER balance_guard BEFORE INSERT OR UPDATE ON ledger_account FOR EACH ROW EXECUTE FUNCTION ledger_balance_guard();
CREATE TRIGGER posting_apply AFTER INSERT ON ledger_posting FOR EACH ROW EXECUTE FUNCTION ledger_posting_apply();
CREATE CONSTRAINT TRIGGER entry_balanced AFTER INSERT ON ledger_entry DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_entry_check();
CREATE CONSTRAINT TRIGGER posting_balanced AFTER INSERT ON ledger_posting DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_posting_entry_check();
"""

TABLES = ("ledger_entry", "ledger_posting", "ledger_logleaf", "ledger_checkpoint")
FORWARD += "".join(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();\n"
    f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();\n"
    for table in TABLES
)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD)]
