"""What a failed check is called in evidence, and whose fault it is. Pure; docs/PROTOCOL.md shows the same table.

1. A replica whose own check failed is invalid, whatever the code. The fault says where to look, and what may be tried again elsewhere.
2. No code accuses of what the portal did: what it could not check is made again, and is called `check_impossible` in the end.
3. A file that no child can check within its limits, or that kills each child that reads it, is refused like a malformed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

NOT_CHECKED: Final = "not_checked"
CHECK_IMPOSSIBLE: Final = "check_impossible"
CHECK_EXCEEDED: Final = "check_exceeded"
CHECK_CRASHED: Final = "check_crashed"
RESULTS_DIFFER: Final = "results_differ"


class Fault(StrEnum):
    """Whose fault it is that a check failed."""

    HOST = "host"
    """The host sent something else than it should have."""
    JOB = "job"
    """The job's program or rules: another host would have sent the same."""
    LIMIT = "limit"
    """More than a check may cost. The host's or the job's doing; one result alone does not tell."""
    CHECKER = "checker"
    """The bytes broke the program that reads them. Made to do so, most likely; a fault of ours to be mended all the same."""
    PORTAL = "portal"
    """Ours alone."""
    NOBODY = "nobody"
    """By itself it says nothing about anybody."""


EVIDENCE_FAULTS: Final[Mapping[str, Fault]] = {
    "envelope_malformed": Fault.HOST,
    "envelope_type_wrong": Fault.HOST,
    "key_wrong": Fault.HOST,
    "signature_invalid": Fault.HOST,
    "statement_malformed": Fault.HOST,
    "statement_type_wrong": Fault.HOST,
    "receipt_contradiction": Fault.HOST,
    "archive_refused": Fault.HOST,
    "output_missing": Fault.HOST,
    "log_refused": Fault.HOST,
    "output_unreadable": Fault.JOB,
    RESULTS_DIFFER: Fault.NOBODY,
    NOT_CHECKED: Fault.NOBODY,
    CHECK_EXCEEDED: Fault.LIMIT,
    CHECK_CRASHED: Fault.CHECKER,
    CHECK_IMPOSSIBLE: Fault.PORTAL,
}
"""Every code that a row of evidence may have."""
