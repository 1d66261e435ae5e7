"""Whose fault it is when a run ends without a result, or a result does not count. Pure. Codes of checks: jobs/checking/codes.py.

Of a failure that a host reports, the class is what the host says, and is believed only as far as jobs/services/failures.py goes: a host can
call its own fault the job's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from workers.protocol.messages.receipt import FailureCode


class FaultClass(StrEnum):
    """What was at fault."""

    IMAGE = "image"
    """The image can't be had, or not as it was pinned."""
    INPUT = "input"
    """An input can't be had, or is another one."""
    LIMIT = "limit"
    """The program ran into a limit that its descriptor sets, or the check of its result into one of ours: the job's doing or the host's."""
    PROGRAM = "program"
    """The program failed, or left outputs that are none, or that can't be compared."""
    CHECKER = "checker"
    """The bytes broke what checks them. Made to do so, most likely; a fault of ours to be mended all the same."""
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
NEEDS_SECOND_WITNESS: Final = frozenset({FailureCode.IMAGE_UNAVAILABLE, FailureCode.INPUT_UNAVAILABLE})
"""Of one copy too: what one host can't fetch may be that host's network."""
PORTAL_CODES: Final = frozenset(code for code, fault in FAILURES.items() if fault == FaultClass.PORTAL)


def is_believed(seen: Collection[tuple[str, int | None]], *, copies: int, owners_min: int) -> bool:
    """Whether faults of the job that hosts reported, each with the owner of its host, are believed.

    `owners_min` owners saw one, or of a job of one copy anybody saw one that needs no second witness.
    """
    if copies == 1 and any(code not in NEEDS_SECOND_WITNESS for code, _ in seen):
        return True
    return len({owner for _, owner in seen}) >= owners_min


def failure_fault(code: str) -> FaultClass | None:
    """The class of a replica's failure code; None: it has none, or one that no host may state."""
    return FAILURES[FailureCode(code)] if code in set(FailureCode) else None
