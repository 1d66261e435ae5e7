"""When two numbers agree, and how a comparison reports the worst deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """Two numbers agree when they differ by at most `absolute + relative * max(|one|, |other|)`."""

    absolute: float = 0.0
    relative: float = 0.0

    def allowed(self, one: float, other: float) -> float:
        """The difference that is still agreement."""
        return self.absolute + self.relative * max(abs(one), abs(other))


@dataclass(frozen=True)
class Deviation:
    """Where two results differ most: `difference` beside what was `allowed`, at `place` (a row and column, or a JSON pointer) of `file`.

    `share` is difference over allowed: above 1 they disagree. Infinite where the two are not both finite numbers.
    """

    file: str
    place: str
    one: str
    other: str
    difference: float
    allowed: float

    @property
    def share(self) -> float:
        if self.difference == 0:
            return 0.0
        return self.difference / self.allowed if self.allowed > 0 else math.inf

    def document(self) -> dict[str, Any]:
        """For storage and for people: short texts, and numbers as JSON allows them (infinity becomes None)."""
        return {
            "file": self.file,
            "place": self.place[:200],
            "one": self.one[:80],
            "other": self.other[:80],
            "difference": self.difference if math.isfinite(self.difference) else None,
            "allowed": self.allowed if math.isfinite(self.allowed) else None,
        }


@dataclass(frozen=True)
class Comparison:
    """Whether two results agree. `worst` is None where nothing numeric differs at all."""

    agree: bool
    worst: Deviation | None

    def document(self) -> dict[str, Any]:
        """As evidence keeps it."""
        return {"agree": self.agree, "worst": self.worst.document() if self.worst else None}


def numbers_compare(file: str, place: str, one: float, other: float, tolerance: Tolerance) -> Deviation | None:
    """The deviation of two numbers, None where they are equal. NaN agrees with NaN, an infinity with itself, and neither with a number."""
    if one == other or (math.isnan(one) and math.isnan(other)):
        return None
    difference = abs(one - other) if math.isfinite(one) and math.isfinite(other) else math.inf
    allowed = tolerance.allowed(one, other) if math.isfinite(difference) else 0.0
    return Deviation(file, place, repr(one), repr(other), difference, allowed)


def texts_compare(file: str, place: str, one: str, other: str) -> Deviation | None:
    """The deviation of two texts: None or infinite. Long texts are shortened for the report."""
    if one == other:
        return None
    return Deviation(file, place, one[:80], other[:80], math.inf, 0.0)


def worst_of(deviations: Iterable[Deviation]) -> Deviation | None:
    """The one with the largest share; reads a stream of any length in flat memory."""
    return max(deviations, key=lambda deviation: deviation.share, default=None)


def comparison_of(deviations: Iterable[Deviation]) -> Comparison:
    """The worst of them decides."""
    worst = worst_of(deviations)
    return Comparison(agree=worst is None or worst.share <= 1, worst=worst)
