"""What a comparison found: how many values, how many beyond what is allowed, and the worst of them with its place.

Places and values come from strangers' files: they are cut and freed of control characters before they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jobs.descriptor.formats import FileFormat
from workers.protocol.plurals import counted

PLACE_CHARACTERS_MAX: Final = 200
VALUE_CHARACTERS_MAX: Final = 80
FILES_REPORTED_MAX: Final = 20
"""Files described one by one in the evidence, those with the worst deviations first."""


@dataclass(frozen=True)
class Deviation:
    """Where two results differ most: `difference` beside what was `allowed`, at `place` of `file`, with both values as text.

    A difference is infinite where the two are not both finite numbers. `share` is difference over allowed: above 1 they disagree.
    """

    file: str
    place: str
    one: str
    other: str
    difference: float
    allowed: float

    @property
    def share(self) -> float:
        return share_of(self.difference, self.allowed)

    @property
    def rank(self) -> tuple[float, float]:
        """What makes one deviation worse than another."""
        return self.share, self.difference

    def document(self) -> dict[str, Any]:
        """For storage and for people: short printable texts, and numbers as JSON allows them (infinity becomes None)."""
        return {
            "file": self.file,
            "place": _printable(self.place, PLACE_CHARACTERS_MAX),
            "one": _printable(self.one, VALUE_CHARACTERS_MAX),
            "other": _printable(self.other, VALUE_CHARACTERS_MAX),
            "difference": self.difference if math.isfinite(self.difference) else None,
            "allowed": self.allowed if math.isfinite(self.allowed) else None,
        }


class Tally:
    """Takes what a comparator finds in one file, in flat memory: counts, the worst deviation, and measures that a format adds.

    Use: `equal` for values that are the same; `differs` for one that isn't, and where that says so, `worst_is` to name it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.compared = 0
        self.exceeding = 0
        self.measures: dict[str, float] = {}
        self.worst: Deviation | None = None
        self._share = self._difference = 0.0

    def equal(self, count: int = 1) -> None:
        self.compared += count

    def differs(self, difference: float, allowed: float) -> bool:
        """Counts one value that differs; whether it is the worst so far."""
        self.compared += 1
        if difference > allowed:
            self.exceeding += 1
        return self.is_worst(difference, allowed)

    def is_worst(self, difference: float, allowed: float) -> bool:
        """Whether this is worse than all before. Counts nothing: for comparators that count many values at once."""
        share = share_of(difference, allowed)
        return share > self._share or (share == self._share and difference > self._difference)

    def worst_is(self, place: str, one: object, other: object, difference: float, allowed: float) -> None:
        """Keeps the worst deviation."""
        self.worst = Deviation(self.file, place, str(one), str(other), difference, allowed)
        self._share, self._difference = self.worst.rank

    def disagrees(self, place: str, one: object, other: object) -> None:
        """Counts one thing that is not the same and has no size: a text, a shape, a number of rows."""
        if self.differs(math.inf, 0.0):
            self.worst_is(place, one, other, math.inf, 0.0)

    def report(self, kind: FileFormat) -> FileReport:
        return FileReport(self.file, kind, self.compared, self.exceeding, self.worst, dict(self.measures))


@dataclass(frozen=True)
class FileReport:
    """What was found in one file. `worst` None: nothing differs at all."""

    file: str
    file_format: FileFormat
    compared: int
    exceeding: int
    worst: Deviation | None
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, float]:
        return self.worst.rank if self.worst else (0.0, 0.0)

    def document(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "format": self.file_format.value,
            "compared": self.compared,
            "exceeding": self.exceeding,
            "worst": self.worst.document() if self.worst else None,
            **self.measures,
        }


@dataclass(frozen=True)
class Comparison:
    """Whether two results agree, file by file; `identical` counts the files that had the same bytes and were not read."""

    files: tuple[FileReport, ...] = ()
    identical: int = 0

    @property
    def agree(self) -> bool:
        return self.exceeding == 0

    @property
    def compared(self) -> int:
        return sum(file.compared for file in self.files)

    @property
    def exceeding(self) -> int:
        return sum(file.exceeding for file in self.files)

    @property
    def worst(self) -> Deviation | None:
        """The worst deviation of all files; None where nothing differs at all."""
        return max((file.worst for file in self.files if file.worst), key=lambda deviation: deviation.rank, default=None)

    @property
    def sentence(self) -> str:
        """For people."""
        return _sentence(self.files, self.identical, self.worst, self.compared, self.exceeding)

    def document(self) -> dict[str, Any]:
        """As evidence keeps it."""
        ranked = sorted(self.files, key=lambda file: file.rank, reverse=True)
        return {
            "agree": self.agree,
            "worst": self.worst.document() if self.worst else None,
            "compared": self.compared,
            "exceeding": self.exceeding,
            "files_compared": len(self.files),
            "files_identical": self.identical,
            "files": [file.document() for file in ranked[:FILES_REPORTED_MAX]],
            "sentence": self.sentence,
        }


def share_of(difference: float, allowed: float) -> float:
    """Difference over allowed: 0 without a difference, infinite where none is allowed."""
    if difference == 0:
        return 0.0
    return difference / allowed if allowed > 0 and math.isfinite(difference) else math.inf


def _sentence(files: Sequence[FileReport], identical: int, worst: Deviation | None, compared: int, exceeding: int) -> str:
    same = f"{counted(identical, 'file')} {'has' if identical == 1 else 'have'} the same bytes. "
    if not files:
        return same.strip()
    found = f"{exceeding} of {compared} values in {counted(len(files), 'other file')} exceed what is allowed."
    if worst is None:
        return f"{same}{found} Nothing differs."
    shown = worst.document()
    size = "" if shown["difference"] is None else f", {worst.difference:.3g} apart where {worst.allowed:.3g} is allowed"
    return f"{same}{found} The worst is in {worst.file} at {shown['place']}: {shown['one']} against {shown['other']}{size}."


def _printable(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, with a replacement character for each that is not printable (controls, directions, surrogates)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:limit])
