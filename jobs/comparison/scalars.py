"""When two numbers agree, one pair at a time."""

from __future__ import annotations

import math
import re
import sys
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Final

from jobs.comparison.rules import Tolerance

NUMBER_CHARACTERS_MAX: Final = 400
"""Longer cells are texts."""
EXPONENT_MAX: Final = 1_000_000
_EXACT_INTEGER_MAX: Final = 2.0**53
_FORTRAN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)[dD][+-]?\d+", re.ASCII)
"""Has one way to match anything, so that a long cell costs time in proportion to its length."""
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMALS: Final = Context(prec=2 * NUMBER_CHARACTERS_MAX, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Its cost is bounded by the digits: exponents are not written out."""
_SHARES: Final = Context(prec=20, Emax=MAX_EMAX, Emin=MIN_EMIN)


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
    """How far apart two cells are that spell the same finite double, `value`: integers beyond 2^53 may differ all the same."""
    if abs(value) < _EXACT_INTEGER_MAX or not (_INTEGER.fullmatch(one) and _INTEGER.fullmatch(other)):
        return 0.0
    return float(abs(int(one) - int(other)))


def spelled_compare(one: str, other: str, value: float, tolerance: Tolerance) -> tuple[float, float]:
    """(difference, what is allowed) of two cells that spell the same double, `value`, 0 or an infinity: the numbers may be neither.

    They are compared as decimals, or as texts where an exponent is beyond EXPONENT_MAX. A difference that is not allowed is told as
    infinite; where one that is allowed is too large for a double, the largest is told as allowed, and the difference in proportion.
    """
    if one == other or (value == 0 and tolerance.absolute > 0):  # the least double is more than any two are apart that are 0 as doubles
        return 0.0, 0.0
    number, counterpart = _decimal_of(one), _decimal_of(other)
    if number is None or counterpart is None or number.is_infinite() != counterpart.is_infinite():
        return math.inf, 0.0
    if number == counterpart:
        return 0.0, 0.0
    with localcontext(_DECIMALS):
        difference = abs(number - counterpart)
        allowed = Decimal(tolerance.absolute) + Decimal(tolerance.relative) * max(abs(number), abs(counterpart))
    if difference > allowed:
        return math.inf, 0.0
    if value == 0:
        return 0.0, 0.0
    return float(_SHARES.divide(difference, allowed)) * sys.float_info.max, sys.float_info.max


def _decimal_of(cell: str) -> Decimal | None:
    """The number that a cell spells for which `number_of` has one; None for an exponent beyond EXPONENT_MAX, unless it is of a zero."""
    mantissa, _, exponent = cell.lower().replace("d", "e").partition("e")
    if not mantissa.strip("+-0."):
        return Decimal(0)
    if exponent and abs(int(exponent)) > EXPONENT_MAX:
        return None
    return Decimal(f"{mantissa}e{exponent}" if exponent else mantissa)
