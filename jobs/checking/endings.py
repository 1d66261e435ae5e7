"""How a child ended, as far as it matters to what it was reading."""

from __future__ import annotations

import signal
from enum import StrEnum

EXIT_MEMORY = 77
"""The exit status of a child that hit its memory limit."""
EXIT_FAULT = 78
"""The exit status of a child that failed at something that is no check."""


class Ending(StrEnum):
    """MEMORY, TIME and CRASHED are the doing of what it read; the others are the portal's affair."""

    ENDED = "ended"
    MEMORY = "memory"
    TIME = "time"
    CRASHED = "crashed"
    KILLED = "killed"
    """By nobody of us: an operator, or a kernel short of memory."""
    LATE = "late"
    """By its supervisor, after a time in which it hadn't used up its processor time: a machine that is too busy, or a store that hangs."""
    FAULT = "fault"
    """A bug, or a child that said what no child says."""


def ending_of(exit_code: int) -> Ending:
    """What `os.waitstatus_to_exitcode` gave of a child that its supervisor hasn't killed."""
    match exit_code:
        case 0:
            return Ending.ENDED
        case code if code == EXIT_MEMORY:
            return Ending.MEMORY
        case code if code == -signal.SIGXCPU:
            return Ending.TIME
        case code if code == -signal.SIGKILL:
            return Ending.KILLED
        case code if code < 0:
            return Ending.CRASHED
        case _:
            return Ending.FAULT
