"""Which worker of a node an exchange comes from, and whether two of them use one key. Pure.

A worker makes a session id when it starts. Sessions of a node follow each other, since one worker at a time runs on a node home; each
begins when its first request was signed, by the host's own clock, and supersedes the one before. So a request of a superseded session that
was signed *after* its successor began was made by a worker that is still alive: the home, or its key, is in two places. One that was signed
before is only late, however often and in whatever order the network delivers it. The rules:

1. The session that is current: `CURRENT`.
2. One that was superseded: `RETURNED` if signed later than its successor began, else `LATE`.
3. An unknown one: `NEW` if signed later than the current one began, else `LATE` (a session that ended before its first request arrived).

In doubt, the same second included, the answer is `LATE`, which harms nobody: such a request is answered and may renew what it names, but
takes no work. A copy whose clock is behind is late at first, and returns once its clock has passed that moment: clocks differ by a minute
at most, or the request's signature would be stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

SUPERSEDED_KEPT: Final = 32
"""Sessions that are remembered; one that comes back after so many others counts as new, and then its successor returns."""


class Arrival(StrEnum):
    """What an exchange's session is to the node."""

    CURRENT = "current"
    NEW = "new"
    LATE = "late"
    RETURNED = "returned"


@dataclass(frozen=True)
class Sessions:
    """What is known of a node's sessions. Times are seconds since 1970; `superseded` is in the order in which they ended."""

    current: UUID
    began_at: int
    superseded: Mapping[UUID, int]

    def arrival_of(self, session_id: UUID, *, signed_at: int) -> Arrival:
        """By the rules above."""
        if session_id == self.current:
            return Arrival.CURRENT
        ended_at = self.superseded.get(session_id)
        if ended_at is not None:
            return Arrival.RETURNED if signed_at > ended_at else Arrival.LATE
        return Arrival.NEW if signed_at > self.began_at else Arrival.LATE

    def followed_by(self, session_id: UUID, *, signed_at: int) -> Sessions:
        """As it is once a new session has taken the current one's place."""
        ended = {**self.superseded, self.current: signed_at}
        return Sessions(session_id, signed_at, dict(list(ended.items())[-SUPERSEDED_KEPT:]))
