"""What a failed check is called in evidence, and whose fault it is. Pure; docs/PROTOCOL.md shows the same table.

1. A replica whose own check failed is invalid, whatever the code. The fault says where to look, and what may be tried again elsewhere.
2. No code accuses of what the portal did: what it could not check is made again, and is called `check_impossible` in the end.
3. A file that no child can check within its limits, or that each child that reads it dies of or fails at, is refused like a malformed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jobs.faults import FaultClass

NOT_CHECKED: Final = "not_checked"
CHECK_IMPOSSIBLE: Final = "check_impossible"
CHECK_EXCEEDED: Final = "check_exceeded"
CHECK_CRASHED: Final = "check_crashed"
RESULTS_DIFFER: Final = "results_differ"

EVIDENCE_FAULTS: Final[Mapping[str, FaultClass | None]] = {
    "envelope_malformed": FaultClass.HOST,
    "envelope_type_wrong": FaultClass.HOST,
    "key_wrong": FaultClass.HOST,
    "signature_invalid": FaultClass.HOST,
    "statement_malformed": FaultClass.HOST,
    "statement_type_wrong": FaultClass.HOST,
    "receipt_contradiction": FaultClass.HOST,
    "archive_refused": FaultClass.HOST,
    "output_missing": FaultClass.HOST,
    "log_refused": FaultClass.HOST,
    "output_unreadable": FaultClass.PROGRAM,
    RESULTS_DIFFER: None,
    NOT_CHECKED: None,
    CHECK_EXCEEDED: FaultClass.LIMIT,
    CHECK_CRASHED: FaultClass.CHECKER,
    CHECK_IMPOSSIBLE: FaultClass.PORTAL,
}
"""Every code that a row of a failed check may have. None: by itself it says nothing about anybody."""

CODES_OF_WORKER: Final = frozenset({CHECK_IMPOSSIBLE, CHECK_EXCEEDED, CHECK_CRASHED})
"""Codes that a worker gives, because its child could not: none of a child's own."""


def evidence_fault(code: str) -> FaultClass | None:
    """The class of a failed check's code; None also for that of a check that passed, which is empty."""
    return EVIDENCE_FAULTS[code] if code else None
