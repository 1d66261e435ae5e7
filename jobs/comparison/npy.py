"""NPY files: one NumPy array. Byte order and memory order don't count; shape and type do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.comparison.arrays import Pair, arrays_compare
from jobs.comparison.npy_headers import HeaderMalformedError, header_parse
from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule, Tolerance


@dataclass(frozen=True)
class StoredArray:
    """An array as its file has it: `items` flat, in rows' order or, `fortran_order`, in that of columns. A view of the file's bytes."""

    items: NDArray[Any]
    shape: tuple[int, ...]
    fortran_order: bool

    def index_text(self, item: int) -> str:
        """The index of a flat item, as Python writes it."""
        index = []
        for size in self.shape if self.fortran_order else reversed(self.shape):
            item, rest = divmod(item, size)
            index.append(rest)
        return str(index if self.fortran_order else index[::-1])

    def by_rows(self) -> StoredArray:
        """The same in rows' order."""
        return StoredArray(self.items.reshape(self.shape, order="F").reshape(-1), self.shape, False)


def npy_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError. `rule.columns` are fields."""
    first, second = array_read(rule.path, one), array_read(rule.path, other)
    for array in (first, second):
        for name in rule.columns:
            if name not in (array.items.dtype.names or ()):
                raise FileUnreadableError(f"{rule.path}: expected an array with the field {name!r}.")
    stored_compare(first, second, tally, tolerance=rule.tolerance, fields=rule.columns, refuses_nan=rule.refuses_nan)


def stored_compare(
    one: StoredArray,
    other: StoredArray,
    tally: Tally,
    *,
    name: str = "",
    tolerance: Tolerance,
    fields: Mapping[str, Tolerance],
    refuses_nan: bool,
) -> None:
    """`name` stands before the index in places. Never raises."""
    types = [array.items.dtype.newbyteorder("=") for array in (one, other)]
    if one.shape != other.shape:
        tally.disagrees(f"{name} shape".strip(), one.shape, other.shape)
    elif types[0] != types[1]:
        tally.disagrees(f"{name} type".strip(), types[0], types[1])
    elif one.items.size:
        if one.fortran_order != other.fortran_order:
            one, other = (array.by_rows() if array.fortran_order else array for array in (one, other))
        place = one.index_text
        pair = Pair(one.items, other.items, lambda item: f"{name}{place(item)}", tolerance, fields, refuses_nan)
        arrays_compare(pair, tally)


def array_read(path: str, data: bytes) -> StoredArray:
    """The array in these bytes, which hold it and nothing else. Raises FileUnreadableError."""
    try:
        header = header_parse(data)
    except HeaderMalformedError as error:
        raise FileUnreadableError(f"{path}: {error}.") from error
    count = math.prod(header.shape)
    expected = header.data_offset + count * header.dtype.itemsize
    if len(data) != expected:
        raise FileUnreadableError(f"{path}: expected {expected} bytes for the shape and type in the header; found {len(data)}.")
    items = np.frombuffer(data, dtype=header.dtype, count=count, offset=header.data_offset) if count else np.empty(0, header.dtype)
    return StoredArray(items, header.shape, header.fortran_order and len(header.shape) > 1)
