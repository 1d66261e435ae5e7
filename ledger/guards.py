"""What the database itself refuses in the ledger: the tables and trigger functions that do it, as migrations, grants and tests know them.

1. A table of APPEND_ONLY refuses UPDATE, DELETE and TRUNCATE by trigger, whoever asks, and the application's role is not granted them.
   A migration that makes such a table runs `refusal_sql` for it, and its name stands here.
2. Every function of FUNCTIONS has a fixed search_path: a temporary table of the caller's can't stand in for one of ours.
3. Those of OWNER_FUNCTIONS run with the owner's rights, so that nobody else needs the right to set a balance or to make an entry pending.
   Nobody else may execute them either: a trigger that runs one, on a table of the caller's own, could move any balance.
"""

from __future__ import annotations

from typing import Final

APPEND_ONLY: Final = ("ledger_checkpoint", "ledger_coordinatorsuccession", "ledger_entry", "ledger_logleaf", "ledger_posting")

FUNCTIONS: Final = (
    "ledger_balance_guard",
    "ledger_entry_check",
    "ledger_entry_pend",
    "ledger_posting_apply",
    "ledger_posting_entry_check",
    "ledger_refuse_change",
)
OWNER_FUNCTIONS: Final = ("ledger_entry_pend", "ledger_posting_apply")


def refusal_sql(table: str) -> str:
    """The triggers that make `table` append-only, for a migration."""
    return (
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();\n"
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();\n"
    )
