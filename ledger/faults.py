"""What can be wrong with the books, each by a stable code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultCode(StrEnum):
    """By what would be compared. The first that is found says where; others may follow from it."""

    LEAF_GAP = "leaf_gap"
    LEAF_ITEM_MISSING = "leaf_item_missing"
    LEAF_HASH_WRONG = "leaf_hash_wrong"
    ITEM_COLUMNS_WRONG = "item_columns_wrong"
    ITEM_LOST = "item_lost"
    ITEM_OVERDUE = "item_overdue"
    ITEM_PENDING_TWICE = "item_pending_twice"
    ENTRY_MISSING = "entry_missing"
    ENTRY_ITEM_MISSING = "entry_item_missing"
    ENTRY_ALTERED = "entry_altered"
    ENTRY_UNBALANCED = "entry_unbalanced"
    POSTING_STRAY = "posting_stray"
    BALANCE_WRONG = "balance_wrong"
    TOTAL_WRONG = "total_wrong"
    ACCOUNT_NEGATIVE = "account_negative"
    CHECKPOINT_ROOT_WRONG = "checkpoint_root_wrong"
    CHECKPOINT_RANGE_WRONG = "checkpoint_range_wrong"
    CHECKPOINT_NOTE_WRONG = "checkpoint_note_wrong"
    CHECKPOINT_MISSING = "checkpoint_missing"
    EPOCH_WRONG = "epoch_wrong"
    PUBLISHED_AHEAD = "ledger_published_ahead"
    PUBLISHED_UNREADABLE = "ledger_published_unreadable"
    FILE_MISSING = "file_missing"
    FILE_WRONG = "file_wrong"


@dataclass(frozen=True)
class Fault:
    """Where, what was expected, and what was found."""

    code: FaultCode
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
