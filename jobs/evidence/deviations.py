"""The deviation report of a concluded job: how each pair of its results compares, and where they differ most. From evidence alone.

What is in it comes from strangers' files by way of jobs.comparison: short printable texts, and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jobs.answers import ReplicaAnswer
from jobs.checking.documents import COMPARISON

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FILE_FIELDS: Final = frozenset({"file", "format", "compared", "exceeding", "worst"})


class Compared(Protocol):
    """Evidence of a comparison, as it is stored or as it is answered."""

    @property
    def passed(self) -> bool | None: ...
    @property
    def code(self) -> str: ...
    @property
    def detail(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Worst:
    """The worst deviation: `difference` beside what is `allowed`, both values as text. None where it isn't a number."""

    file: str
    place: str
    one: str
    other: str
    difference: float | None
    allowed: float | None

    @property
    def share_percent(self) -> float | None:
        """Of what is allowed; above 100 they disagree. None where nothing is, or where it can't be said."""
        return None if self.difference is None or not self.allowed else 100 * self.difference / self.allowed


@dataclass(frozen=True)
class FileCompared:
    """One file that was read and compared. `measures`: what its format adds, by name."""

    file: str
    format: str
    compared: int
    exceeding: int
    worst: Worst | None
    measures: list[tuple[str, float]]


@dataclass(frozen=True)
class PairCompared:
    """Two results. `files_more` were compared too, with smaller deviations; `files_identical` have the same bytes."""

    one: str
    other: str
    passed: bool | None
    code: str
    sentence: str
    compared: int
    exceeding: int
    worst: Worst | None
    files: list[FileCompared]
    files_more: int
    files_identical: int


def letter_of(number: int) -> str:
    """A, B, … Z, then numbers: what a page calls the replicas of a job, oldest first."""
    return _ALPHABET[number] if number < len(_ALPHABET) else str(number + 1)


def pairs_compared(replicas: Sequence[ReplicaAnswer]) -> list[PairCompared]:
    """The pairs that were compared, those that disagree first; empty while results are hidden."""
    letters = {replica.id: letter_of(number) for number, replica in enumerate(replicas) if replica.result and replica.result.receipt_digest}
    pairs = [
        pair_compared(letters[replica.id], letters[evidence.other], evidence)
        for replica in replicas
        if replica.id in letters and replica.result
        for evidence in replica.result.evidence
        if evidence.check == COMPARISON and evidence.other in letters
    ]
    return pairs_sorted(pairs)


def pairs_sorted(pairs: Iterable[PairCompared]) -> list[PairCompared]:
    """Those that disagree first."""
    return sorted(pairs, key=lambda pair: (pair.passed is not False, pair.one, pair.other))


def pair_compared(one: str, other: str, evidence: Compared) -> PairCompared:
    """How the results `one` and `other` compare, by the evidence of their comparison."""
    detail = evidence.detail
    files = [_file_of(found) for found in detail.get("files", ())]
    return PairCompared(
        one=one,
        other=other,
        passed=evidence.passed,
        code=evidence.code,
        sentence=str(detail.get("sentence") or detail.get("message") or ""),
        compared=int(detail.get("compared", 0)),
        exceeding=int(detail.get("exceeding", 0)),
        worst=_worst_of(detail.get("worst")),
        files=files,
        files_more=max(0, int(detail.get("files_compared", 0)) - len(files)),
        files_identical=int(detail.get("files_identical", 0)),
    )


def _file_of(found: Mapping[str, Any]) -> FileCompared:
    return FileCompared(
        file=str(found.get("file", "")),
        format=str(found.get("format", "")),
        compared=int(found.get("compared", 0)),
        exceeding=int(found.get("exceeding", 0)),
        worst=_worst_of(found.get("worst")),
        measures=[(name, value) for name, value in found.items() if name not in _FILE_FIELDS and isinstance(value, float | int)],
    )


def _worst_of(found: Mapping[str, Any] | None) -> Worst | None:
    if not found:
        return None
    texts = {name: str(found.get(name, "")) for name in ("file", "place", "one", "other")}
    return Worst(**texts, difference=found.get("difference"), allowed=found.get("allowed"))
