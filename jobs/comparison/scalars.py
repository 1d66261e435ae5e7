"""When two numbers agree, one pair at a time."""

from __future__ import annotations

import math
import re
from typing import Final

from jobs.comparison.rules import Tolerance

NUMBER_CHARACTERS_MAX: Final = 400
"""Longer cells are texts."""
_EXACT_INTEGER_MAX: Final = 2.0**53
_FORTRAN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)[dD][+-]?\d+", re.ASCII)
"""Has one way to match anything, so that a long cell costs time in proportion to its length."""
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


def number_of(cell: str) -> float | None:
    """The number that a cell spells, without spaces around it, in ASCII; None for any other text. Fortran writes exponents with a d."""
    if len(cell) > NUMBER_CHARACTERS_MAX or "_" in cell or not cell.isascii():  # Python reads 1_000 and digits of all scripts
        return None
    try:
        return float(cell)
    except ValueError:
        return float(cell.lower().replace("d", "e")) if _FORTRAN.fullmatch(cell) else None


def numbers_difference(one: float, other: float) -> float:
    """How far apart two numbers are. NaN is equal to NaN and an infinity to itself; either is infinitely far from anything else."""
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    return abs(one - other) if math.isfinite(one) and math.isfinite(other) else math.inf


def allowed_of(tolerance: Tolerance, one: float, other: float, difference: float) -> float:
    """What `tolerance` allows; nothing where the difference is infinite, or there is none."""
    return tolerance.allowed(one, other) if 0 < difference < math.inf else 0.0


def integers_difference(one: str, other: str, value: float) -> float:
    """How far apart two cells are that spell the same double, `value`: integers beyond 2^53 may differ all the same.

    Infinite where they are beyond all doubles.
    """
    if abs(value) < _EXACT_INTEGER_MAX or not (_INTEGER.fullmatch(one) and _INTEGER.fullmatch(other)):
        return 0.0
    difference = abs(int(one) - int(other))
    return math.inf if difference and math.isinf(value) else float(difference)
