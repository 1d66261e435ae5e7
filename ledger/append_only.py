"""Which tables of the ledger only grow. Triggers refuse the rest to everybody (migration 0002); roles are granted no more than INSERT."""

from __future__ import annotations

from typing import Final

APPEND_ONLY: Final = (
    "ledger_entry",
    "ledger_posting",
    "ledger_logitem",
    "ledger_logleaf",
    "ledger_checkpoint",
    "ledger_epoch",
    "ledger_coordinatorsuccession",
)

BY_TRIGGER: Final = ("ledger_entrytotal", "ledger_pendingitem")
"""Written by the triggers of items and leaves alone, which run as the tables' owner: a role needs SELECT."""
