"""Comparison of two NumPy arrays of the same shape and type, a block at a time.

1. Numbers agree within the tolerance. A complex number's size is its modulus; where a part is not finite, both parts must be the same.
2. Integers are compared as such: their difference is exact, also beyond 2^53.
3. Texts, bytes, truth values, times and opaque items are the same or not.
4. Items with fields are compared field by field, each with the tolerance of its name. `[3].a.b` is a field of a field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.comparison.report import VALUE_CHARACTERS_MAX, Tally
from jobs.comparison.rules import Tolerance

BLOCK_ITEMS: Final = 2**16
"""A block and what is made of it stay in the cache, and are little beside the arrays."""

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two flat arrays of one type and length, the place of each item as text, and the rules; `fields` have tolerances of their own."""

    one: Array
    other: Array
    place: Callable[[int], str]
    tolerance: Tolerance
    fields: Mapping[str, Tolerance]
    refuses_nan: bool


def arrays_compare(pair: Pair, tally: Tally) -> None:
    """Never raises, and never warns: overflow and signalling NaN are answers."""
    kind = pair.one.dtype
    if kind.names is not None:
        for name in kind.names:
            _field_compare(pair, name, tally)
        return
    compare = _numbers_compare if kind.kind in "iufc" else _exact_compare
    with np.errstate(all="ignore"):
        for start in range(0, len(pair.one), BLOCK_ITEMS):
            compare(pair, start, tally)


def _field_compare(pair: Pair, name: str, tally: Tally) -> None:
    one, other = pair.one[name], pair.other[name]
    items = math.prod(one.shape[1:])  # of a field that is an array itself
    inner = replace(
        pair,
        one=one.reshape(-1),
        other=other.reshape(-1),
        place=lambda index: f"{pair.place(index // items)}.{name}" + (f"[{index % items}]" if one.ndim > 1 else ""),
        tolerance=pair.fields.get(name, pair.tolerance),
        fields={},
    )
    arrays_compare(inner, tally)


def _numbers_compare(pair: Pair, start: int, tally: Tally) -> None:
    one, other = _native(pair.one[start : start + BLOCK_ITEMS]), _native(pair.other[start : start + BLOCK_ITEMS])
    same = one == other
    if one.dtype.kind in "fc" and not pair.refuses_nan and not same.all():
        same |= _same_with_nan(one, other)
    tally.equal(len(one))
    (places,) = np.nonzero(~same)
    if len(places) == 0:
        return
    one, other = one[places], other[places]
    difference, size = _differences(one, other)
    allowed = np.where(np.isfinite(difference), pair.tolerance.absolute + pair.tolerance.relative * size, 0.0)
    tally.exceeding += int(np.count_nonzero(difference > allowed))
    worst = worst_index(difference, allowed)
    found = float(difference[worst]), float(allowed[worst])
    if tally.is_worst(*found):
        tally.worst_is(pair.place(start + int(places[worst])), one[worst].item(), other[worst].item(), *found)


def _same_with_nan(one: Array, other: Array) -> NDArray[np.bool_]:
    """Where each part is NaN in both, or the same number in both."""
    same = np.ones(len(one), np.bool_)
    for first, second in [(one, other)] if one.dtype.kind == "f" else [(one.real, other.real), (one.imag, other.imag)]:
        same &= (first == second) | (np.isnan(first) & np.isnan(second))
    return same


def _differences(one: Array, other: Array) -> tuple[Floats, Floats]:
    """(how far apart, the larger magnitude) of items that are not the same. Infinite where the two are not both finite."""
    if one.dtype.kind in "iu":
        unsigned = np.dtype(f"u{one.dtype.itemsize}")
        larger, smaller = np.maximum(one, other), np.minimum(one, other)
        difference = (larger.astype(unsigned) - smaller.astype(unsigned)).astype(np.float64)  # wraps to what is right
        return difference, np.maximum(np.abs(one.astype(np.float64)), np.abs(other.astype(np.float64)))
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    one, other = one.astype(wide), other.astype(wide)
    size = np.minimum(np.maximum(np.abs(one), np.abs(other)), np.finfo(np.float64).max)  # a modulus may overflow
    finite = np.isfinite(one) & np.isfinite(other)
    difference = np.where(finite, np.abs(one - other), math.inf)
    return np.where(np.isnan(difference), math.inf, difference), size


def worst_index(difference: Floats, allowed: Floats) -> int:
    """Of the items, at least one, the first with the largest share of what is allowed, and among these with the largest difference."""
    with np.errstate(all="ignore"):
        shares = np.where((allowed > 0) & np.isfinite(difference), difference / allowed, math.inf)
    shares[difference == 0] = 0.0
    (leading,) = np.nonzero(shares == shares.max())
    return int(leading[np.argmax(difference[leading])])


def _exact_compare(pair: Pair, start: int, tally: Tally) -> None:
    one, other = pair.one[start : start + BLOCK_ITEMS], pair.other[start : start + BLOCK_ITEMS]
    (places,) = np.nonzero((_units(one) != _units(other)).any(axis=1))
    tally.equal(len(one))
    if len(places):
        tally.exceeding += len(places)
        if tally.is_worst(math.inf, 0.0):
            first = int(places[0])
            tally.worst_is(pair.place(start + first), _shown(one[first : first + 1]), _shown(other[first : first + 1]), math.inf, 0.0)


def _native(items: Array) -> Array:
    return items.astype(items.dtype.newbyteorder("="), copy=False)


def _units(items: Array) -> Array:
    """Each item as the integers that it consists of, (items, units): what a stranger's bytes say, without asking what they mean."""
    items = np.ascontiguousarray(items)
    kind = items.dtype
    unit = {"U": "u4", "M": "i8", "m": "i8"}.get(kind.kind, "u1")
    units = items.view(np.uint8).view(np.dtype(unit).newbyteorder(kind.byteorder))
    return units.reshape(len(items), -1)


def _shown(item: Array) -> str:
    """One item as text: characters, a count of time units, else hexadecimal digits."""
    units = _units(item)[0][:VALUE_CHARACTERS_MAX].tolist()
    match item.dtype.kind:
        case "U":
            return "".join(chr(unit) if unit <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}" for unit in units).rstrip("\0")
        case "S":
            return bytes(units).decode("latin-1").rstrip("\0")
        case "M" | "m":
            return f"{units[0]} {np.datetime_data(item.dtype)[0]}"
        case "b":
            return "true" if units[0] else "false"
        case _:
            return bytes(units).hex()
