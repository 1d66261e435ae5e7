"""How long a check may take, by the bytes that it reads. Pure.

Processor time is the limit that counts: a result is refused for what it costs, never because this machine had other work as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobs.checking.documents import JobDocument, ReplicaDocument

MIB: Final = 2**20
PIECE_SECONDS_MAX: Final = 3600
"""Of processor time, for one piece. Beyond it a child ends by a hard limit as well."""
OWN_SECONDS: Final = 20
PAIR_SECONDS: Final = 60
READ_BYTES_PER_SECOND: Final = 16 * MIB
"""Hashing and reading an archive: a tenth of what was measured."""
COMPARE_BYTES_PER_SECOND: Final = MIB
"""Comparing by value: a fifth of what was measured for CSV."""

EXPECTED_READ_BYTES_PER_SECOND: Final = 32 * MIB
EXPECTED_COMPARE_BYTES_PER_SECOND: Final = 4 * MIB


def piece_cpu_seconds(document: JobDocument, piece: Sequence[int]) -> int:
    """Processor time that a piece of the document may use, in whole seconds."""
    stored_bytes = sum(_stored_bytes(document.replicas[place]) for place in piece)
    if len(piece) == 1:
        return min(PIECE_SECONDS_MAX, OWN_SECONDS + stored_bytes // READ_BYTES_PER_SECOND)
    return min(PIECE_SECONDS_MAX, PAIR_SECONDS + stored_bytes // READ_BYTES_PER_SECOND + stored_bytes // COMPARE_BYTES_PER_SECOND)


def piece_wall_seconds(cpu_seconds: int) -> float:
    """After this its supervisor gives the piece up, for now: something other than the bytes holds it back."""
    return 30 + 4 * cpu_seconds


def job_expected_seconds(sizes: Sequence[int], *, by_value: bool) -> float:
    """What the checks of a job are expected to take at most, on a machine with other work: `sizes` are the stored bytes of each replica."""
    total = sum(sizes)
    seconds = total / EXPECTED_READ_BYTES_PER_SECOND
    if by_value:  # each with each
        seconds += total * max(0, len(sizes) - 1) / EXPECTED_COMPARE_BYTES_PER_SECOND
    return seconds


def _stored_bytes(replica: ReplicaDocument) -> int:
    return replica.archive.size_bytes + replica.log.size_bytes
