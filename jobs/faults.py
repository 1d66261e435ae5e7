"""Whose fault it is when a run ends without a result, or a result does not count. Pure.

Of a failure that a host reports, the class is what the host says, and is believed only as far as jobs/services/failures.py goes: a host can
call its own fault the job's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from workers.protocol.messages import FailureCode


class FaultClass(StrEnum):
    """What was at fault."""

    IMAGE = "image"
    """The image can't be had, or not as it was pinned."""
    INPUT = "input"
    """An input can't be had, or is another one."""
    LIMIT = "limit"
    """The program ran into a limit that its descriptor sets."""
    PROGRAM = "program"
    """The program failed, or left outputs that are none."""
    CHECKER = "checker"
    """A result is well-formed, and the comparison can't make anything of it."""
    HOST = "host"
    """The host, or what it sent."""
    PORTAL = "portal"
    """The portal: never held against a host or a job."""


FAILURES: Final[Mapping[FailureCode, FaultClass]] = {
    FailureCode.IMAGE_UNAVAILABLE: FaultClass.IMAGE,
    FailureCode.INPUT_UNAVAILABLE: FaultClass.INPUT,
    FailureCode.INPUT_MISMATCH: FaultClass.INPUT,
    FailureCode.EXIT_NONZERO: FaultClass.PROGRAM,
    FailureCode.LIMIT_WALL: FaultClass.LIMIT,
    FailureCode.LIMIT_MEMORY: FaultClass.LIMIT,
    FailureCode.LIMIT_DISK: FaultClass.LIMIT,
    FailureCode.LIMIT_OUTPUT: FaultClass.LIMIT,
    FailureCode.OUTPUT_MISSING: FaultClass.PROGRAM,
    FailureCode.OUTPUT_REFUSED: FaultClass.PROGRAM,
    FailureCode.CANCELLED: FaultClass.PORTAL,
    FailureCode.HOST_ENGINE: FaultClass.HOST,
    FailureCode.HOST_DISK: FaultClass.HOST,
    FailureCode.HOST_REFUSED: FaultClass.HOST,
    FailureCode.HOST_STOPPED: FaultClass.HOST,
    FailureCode.HOST_GAVE_UP: FaultClass.HOST,
    FailureCode.HOST_ERROR: FaultClass.HOST,
}
"""The class of every code that a receipt may state."""

OF_THE_JOB: Final = frozenset({FaultClass.IMAGE, FaultClass.INPUT, FaultClass.LIMIT, FaultClass.PROGRAM})
"""Classes that another host would see too."""

JOB_CODES: Final = frozenset(code for code, fault in FAILURES.items() if fault in OF_THE_JOB)
PORTAL_CODES: Final = frozenset(code for code, fault in FAILURES.items() if fault == FaultClass.PORTAL)

_EVIDENCE: Final[Mapping[str, FaultClass | None]] = {
    "check_impossible": FaultClass.PORTAL,
    "output_unreadable": FaultClass.CHECKER,
    "results_differ": None,
    "not_checked": None,
    "": None,
}


def failure_fault(code: str) -> FaultClass | None:
    """The class of a replica's failure code; None: it has none, or one that no host may state."""
    return FAILURES[FailureCode(code)] if code in set(FailureCode) else None


def evidence_fault(code: str) -> FaultClass | None:
    """The class of a failed check's code. What isn't listed is a refusal of bytes that a host sent.

    None where it says nothing about fault: two results that differ, a check that another one's failure prevented.
    """
    return _EVIDENCE.get(code, FaultClass.CHECKER if code.startswith("checker_") else FaultClass.HOST)
