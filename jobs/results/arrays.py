"""NPY and NPZ files as shape, type, statistics and first values. Pure.

Read by jobs.comparison, which reads no objects (pickles). Statistics are of finite values, in double precision, a piece at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.comparison.npy import StoredArray, array_read
from jobs.comparison.npz import NpzMembers
from jobs.comparison.reading import FileUnreadableError
from jobs.descriptor.formats import FileFormat
from jobs.results.texts import text_head

ARRAY_BYTES: Final = 32 * 2**20
UNPACKED_BYTES: Final = 64 * 2**20
ARRAYS_SHOWN: Final = 50
"""Members of an NPZ, and fields of a record."""
VALUES_SHOWN: Final = 12
_PIECE_ITEMS: Final = 2**18
_VALUE_CHARACTERS: Final = 60


@dataclass(frozen=True)
class Statistics:
    """Of the finite values; of complex numbers, their magnitudes. None throughout where there is none."""

    least: float | None
    greatest: float | None
    mean: float | None
    deviation: float | None
    not_finite: int


@dataclass(frozen=True)
class ArrayShown:
    """An array, or a field of its records. `statistics` None: not numbers."""

    name: str
    shape: str
    type: str
    items: int
    statistics: Statistics | None
    values: list[str]


def arrays_read(path: str, file_format: FileFormat, data: bytes) -> list[ArrayShown]:
    """The arrays of an NPY or NPZ, at most ARRAYS_SHOWN. Raises FileUnreadableError."""
    if len(data) > ARRAY_BYTES:
        raise FileUnreadableError(f"{path}: expected at most {ARRAY_BYTES} bytes to be shown; found more. Download it to read it.")
    if file_format is FileFormat.NPY:
        return _shown("", array_read(path, data))
    members = NpzMembers(path, data)
    if members.unpacked_bytes > UNPACKED_BYTES:
        raise FileUnreadableError(f"{path}: expected at most {UNPACKED_BYTES} bytes unpacked; found {members.unpacked_bytes}. Download it.")
    found: list[ArrayShown] = []
    for name in sorted(members.names):
        if len(found) >= ARRAYS_SHOWN:
            break
        found += _shown(name, array_read(path, members.read(name)))
    return found[:ARRAYS_SHOWN]


def _shown(name: str, stored: StoredArray) -> list[ArrayShown]:
    items, shape = stored.items, " by ".join(map(str, stored.shape)) or "one value"
    if items.dtype.names is None:
        return [_one(name, shape, items)]
    fields = items.dtype.names[:ARRAYS_SHOWN]
    return [_one(f"{name}.{_text(field)}".lstrip("."), shape, items[field].reshape(-1)) for field in fields]


def _one(name: str, shape: str, items: NDArray[Any]) -> ArrayShown:
    values = [_text(str(value)) for value in items[:VALUES_SHOWN].tolist()]
    statistics = _statistics(items) if items.dtype.kind in "biufc" else None
    return ArrayShown(_text(name), shape, _text(str(items.dtype.newbyteorder("="))), items.size, statistics, values)


def _statistics(items: NDArray[Any]) -> Statistics:
    least, greatest, total, squares, count = np.inf, -np.inf, 0.0, 0.0, 0
    with np.errstate(all="ignore"):
        for start in range(0, items.size, _PIECE_ITEMS):
            piece = items[start : start + _PIECE_ITEMS]
            numbers = np.abs(piece).astype(np.float64) if piece.dtype.kind == "c" else piece.astype(np.float64)
            numbers = numbers[np.isfinite(numbers)]
            if numbers.size:
                # Chan, Golub and LeVeque's update: squares of the distances from the mean, a piece at a time.
                mean, size = float(numbers.mean()), numbers.size
                delta = mean - (total / count if count else mean)
                squares += float(np.square(numbers - mean).sum()) + delta * delta * count * size / (count + size)
                total, count = total + float(numbers.sum()), count + size
                least, greatest = min(least, float(numbers.min())), max(greatest, float(numbers.max()))
    if not count:
        return Statistics(None, None, None, None, items.size)
    return Statistics(least, greatest, total / count, float(np.sqrt(squares / count)), items.size - count)


def _text(text: str) -> str:
    return text_head(text[:_VALUE_CHARACTERS].encode("utf-8", "replace")).text
