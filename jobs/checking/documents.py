"""What a child is given and what it answers. Pure data.

A JobDocument has pieces: the own checks of each replica that hasn't passed them yet, then the comparisons, in this order. A child that dies
dies in the middle of one piece, and its supervisor knows which.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from jobs.checking.codes import NOT_CHECKED

OWN_CHECKS: Final = ("signature", "archive", "outputs", "log")
"""The checks that concern one replica alone, in the order in which they are made."""
COMPARISON: Final = "comparison"
TRACE_CHARACTERS_MAX: Final = 2000


class BlobAwayError(Exception):
    """Stored bytes can't be had at the moment: the portal's fault. Says why, in the words of the process that tried."""


@dataclass(frozen=True)
class BlobDocument:
    """A stored blob: its bytes in `data`, or an open file, or (`away`) why there is neither. `digest` None: the receipt has none."""

    digest: str | None
    size_bytes: int
    data: bytes | None = None
    descriptor: int | None = None
    """Of a regular file, open for reading. Whoever made the document closes it."""
    away: str = ""

    def open(self) -> BinaryIO:
        """The bytes from their beginning; close it. Raises BlobAwayError."""
        if self.data is not None:
            return io.BytesIO(self.data)
        if self.descriptor is not None:
            os.lseek(self.descriptor, 0, os.SEEK_SET)
            return open(self.descriptor, "rb", closefd=False)
        raise BlobAwayError(self.away or "not sent along")


NO_BLOB: Final = BlobDocument(digest=None, size_bytes=0, away="not needed")


@dataclass(frozen=True)
class ReplicaDocument:
    """A reported replica. `passed`: it has passed its own checks before, and its envelope and log are not sent along."""

    replica_id: str
    lease_id: str
    order_digest: str
    public_key: bytes
    envelope: bytes
    archive: BlobDocument
    log: BlobDocument
    passed: bool = False


@dataclass(frozen=True)
class JobDocument:
    """What is to be checked of one job. `descriptor` is its JSON text; `pairs` are places in `replicas`."""

    descriptor: bytes
    replicas: Sequence[ReplicaDocument]
    pairs: Sequence[tuple[int, int]] = ()

    def pieces(self) -> list[tuple[int, ...]]:
        """Places of the one replica, or of the two, that each piece is about."""
        return [(place,) for place, replica in enumerate(self.replicas) if not replica.passed] + [tuple(pair) for pair in self.pairs]


@dataclass(frozen=True)
class Finding:
    """A check that was made: what becomes a row of evidence."""

    replica_id: str
    check_name: str
    passed: bool
    code: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    other_id: str | None = None


@dataclass(frozen=True)
class Unmade:
    """A check that could not be made: `error` names why, `trace` is for the log. It is the portal's doing, unless it is `by_bytes`: what
    read the host's bytes failed as nothing of ours may, and would again."""

    replica_id: str
    check_name: str
    error: str
    trace: str = ""
    other_id: str | None = None
    by_bytes: bool = False


Outcome = Finding | Unmade


def failure_findings(replica_id: str, check_name: str, *, code: str, message: str) -> list[Finding]:
    """The own check `check_name` failed; those after it fail with it, not checked."""
    following = OWN_CHECKS[OWN_CHECKS.index(check_name) + 1 :]
    return [
        Finding(replica_id, check_name, passed=False, code=code, detail={"message": message[:1000]}),
        *(Finding(replica_id, name, passed=False, code=NOT_CHECKED, detail={"after": check_name}) for name in following),
    ]
