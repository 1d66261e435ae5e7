"""What an audit finds wrong, by stable codes. A finding accuses; a warning says what the reader must know and nobody did wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

KEPT_PER_CODE: Final = 100
"""Findings of one code that are kept whole; the others are counted: a log that is wrong throughout fills no memory."""
MESSAGE_CHARACTERS_MAX: Final = 1000


class FindingCode(StrEnum):
    """Codes never change their meaning; docs/auditing.md says what each proves."""

    # the log
    LOG_FORKED = "log_forked"
    LOG_ROOT_WRONG = "log_root_wrong"
    LOG_INCOMPLETE = "log_incomplete"
    TILE_WRONG = "tile_wrong"
    # any leaf
    LEAF_MALFORMED = "leaf_malformed"
    KEY_REPEATED = "key_repeated"
    KEY_WRONG = "key_wrong"
    AMOUNT_IMPOSSIBLE = "amount_impossible"
    # entries
    POSTINGS_UNBALANCED = "postings_unbalanced"
    POSTINGS_WRONG = "postings_wrong"
    ACCOUNT_NEGATIVE = "account_negative"
    ENTRY_REPEATED = "entry_repeated"
    EVIDENCE_MALFORMED = "evidence_malformed"
    JOB_UNRESERVED = "job_unreserved"
    RESERVATION_REPEATED = "reservation_repeated"
    RESERVATION_EXCEEDED = "reservation_exceeded"
    PAYMENT_WITHOUT_RECEIPT = "payment_without_receipt"
    PAYMENT_ACCOUNT_WRONG = "payment_account_wrong"
    PAYMENT_AMOUNT_WRONG = "payment_amount_wrong"
    PAYMENT_REPEATED = "payment_repeated"
    PAYMENT_MISSING = "payment_missing"
    SHARE_WRONG = "share_wrong"
    QUORUM_MISSED = "quorum_missed"
    REFUND_WRONG = "refund_wrong"
    REFUND_MISSING = "refund_missing"
    REVERSAL_WRONG = "reversal_wrong"
    # node keys and receipts
    NODE_KEY_MALFORMED = "node_key_malformed"
    NODE_KEY_REPEATED = "node_key_repeated"
    RECEIPT_KEY_UNKNOWN = "receipt_key_unknown"
    RECEIPT_SIGNATURE_INVALID = "receipt_signature_invalid"
    RECEIPT_MALFORMED = "receipt_malformed"
    RECEIPT_MISMATCH = "receipt_mismatch"
    RECEIPTS_CONTRADICT = "receipts_contradict"
    ORDER_REPEATED = "order_repeated"
    # the choice of `spot` jobs
    SPOT_KEY_UNCOMMITTED = "spot_key_uncommitted"
    SPOT_KEY_REPEATED = "spot_key_repeated"
    SPOT_KEY_WRONG = "spot_key_wrong"
    SPOT_KEY_EARLY = "spot_key_early"
    SPOT_CHOICE_WRONG = "spot_choice_wrong"
    SPOT_QUORUM_LOW = "spot_quorum_low"


@dataclass(frozen=True)
class Finding:
    """One violation. `leaf` is the index in the log that it is about; None where it is about the whole."""

    code: FindingCode
    leaf: int | None
    message: str


@dataclass
class Findings:
    """All that one audit found: every one counted, the first KEPT_PER_CODE of a code kept."""

    counts: Counter[FindingCode] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, code: FindingCode, leaf: int | None, message: str) -> None:
        """Counts a violation."""
        self.counts[code] += 1
        if self.counts[code] <= KEPT_PER_CODE:
            self.kept.append(Finding(code, leaf, message[:MESSAGE_CHARACTERS_MAX]))

    def warn(self, message: str) -> None:
        """Something to be told that is no violation."""
        self.warnings.append(message)
