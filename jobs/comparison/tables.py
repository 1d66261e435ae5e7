"""Comparison of two tables, row by row.

1. Two tables agree when both have the same header or both have none, and the same rows, and each pair of cells agrees.
2. Cells that are both numbers agree within the tolerance of their column; all others when they are the same text. Spaces around a cell
   don't count.
3. Rows are matched by their place, or, in any order, by the cells of the key columns, as text. A key stands in one row only. (Matching by
   closeness would not be symmetric: which row is nearest depends on where one starts.)
4. Columns that a rule names must be there, once. Without a header they have numbers from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule, Tolerance
from jobs.comparison.scalars import allowed_of, integers_difference, number_of, numbers_difference, spelled_compare
from jobs.descriptor.formats import RowOrder

CELLS_MAX: Final = 10_000_000
"""Of one table; a pair of cells takes about 4 microseconds."""
ROWS_UNORDERED_MAX: Final = 500_000
CELLS_UNORDERED_MAX: Final = 2_000_000
"""Rows in any order are held until all are there; a row takes about 250 bytes, a cell 60."""


@dataclass(frozen=True)
class Table:
    """A table that is being read: `names` of its columns, from a header or by number, and the rows below, once."""

    has_header: bool
    names: Sequence[str]
    rows: Iterator[list[str]]


def table_of(rule: FileRule, rows: Iterator[list[str]], *, header: Callable[[list[str]], bool]) -> Table:
    """The table of these rows, without blank ones; `header` says whether the first is one, unless the rule does."""
    first = next(rows, None)
    if first is None:
        raise FileUnreadableError(f"{rule.path}: expected a table, found no row.")
    if rule.header if rule.header is not None else header(first):
        return Table(True, [name.strip() for name in first], rows)
    return Table(False, [str(number + 1) for number in range(len(first))], chain([first], rows))


def tables_compare(rule: FileRule, one: Table, other: Table, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    headers = [table.names if table.has_header else "no header" for table in (one, other)]
    if headers[0] != headers[1]:
        tally.disagrees("header", *(header if isinstance(header, str) else ",".join(header[:80]) for header in headers))
        return
    for table in (one, other):
        for name in (*rule.columns, *rule.key):
            if (count := table.names.count(name)) != 1:
                raise FileUnreadableError(f"{rule.path}: expected exactly one column {name!r}; found {count}.")
    cells = _Cells(rule, one.names, tally)
    if rule.order is RowOrder.ANY:
        _keyed_compare(rule, one, other, cells)
        return
    rows = [0, 0]
    for number, (row, counterpart) in enumerate(zip_longest(one.rows, other.rows), start=1):
        if row is None or counterpart is None:
            rows[row is None] = number
        else:
            rows = [number, number]
            cells.compare(f"row {number}", row, counterpart)
    if rows[0] != rows[1]:
        tally.disagrees("number of rows", rows[0], rows[1])


class _Cells:
    """Compares rows of one pair of tables."""

    def __init__(self, rule: FileRule, names: Sequence[str], tally: Tally) -> None:
        self._rule, self._names, self.tally = rule, names, tally
        self._tolerances = [rule.tolerance_of(name) for name in names]
        self._left = CELLS_MAX

    def compare(self, place: str, row: list[str], counterpart: list[str]) -> None:
        """Two rows that stand for the same, at `place`. Raises FileUnreadableError when there were too many cells."""
        self._left -= max(len(row), len(counterpart))
        if self._left < 0:
            raise FileUnreadableError(f"{self._rule.path}: expected at most {CELLS_MAX} cells; found more.")
        if len(row) != len(counterpart):
            self.tally.disagrees(place, f"{len(row)} cells", f"{len(counterpart)} cells")
            return
        if row == counterpart and not self._rule.refuses_nan:
            self.tally.equal(len(row))
            return
        for index, (cell, other) in enumerate(zip(row, counterpart, strict=True)):
            tolerance = self._tolerances[index] if index < len(self._tolerances) else self._rule.tolerance
            difference, allowed = self._difference(cell.strip(), other.strip(), tolerance)
            if difference == 0:
                self.tally.compared += 1
            elif self.tally.differs(difference, allowed):
                name = self._names[index] if index < len(self._names) else str(index + 1)
                column = f"column {name}" if name.isdecimal() else name
                self.tally.worst_is(f"{place}, {column}", cell.strip(), other.strip(), difference, allowed)

    def _difference(self, cell: str, other: str, tolerance: Tolerance) -> tuple[float, float]:
        """(difference, what is allowed)."""
        if cell == other and not self._rule.refuses_nan:
            return 0.0, 0.0
        number, counterpart = number_of(cell), number_of(other)
        if number is None or counterpart is None:
            return (0.0 if cell == other else math.inf), 0.0
        if self._rule.refuses_nan and (math.isnan(number) or math.isnan(counterpart)):
            return math.inf, 0.0
        if number == counterpart and (number == 0 or math.isinf(number)):
            return spelled_compare(cell, other, number, tolerance)
        difference = numbers_difference(number, counterpart) or integers_difference(cell, other, number)
        return difference, allowed_of(tolerance, number, counterpart, difference)


def _keyed_compare(rule: FileRule, one: Table, other: Table, cells: _Cells) -> None:
    sides = [_rows_by_key(rule, table) for table in (one, other)]
    unmatched = [sorted(sides[0].keys() - sides[1].keys()), sorted(sides[1].keys() - sides[0].keys())]
    for side, keys in enumerate(unmatched):
        for key in keys:
            states = ("present", "missing") if side == 0 else ("missing", "present")
            cells.tally.disagrees(_place(rule, key), *states)
    for key, row in sides[0].items():
        if (counterpart := sides[1].get(key)) is not None:
            cells.compare(_place(rule, key), row, counterpart)


def _rows_by_key(rule: FileRule, table: Table) -> dict[tuple[str, ...], list[str]]:
    places = [table.names.index(name) for name in rule.key]
    found: dict[tuple[str, ...], list[str]] = {}
    cells = 0
    for row in table.rows:
        cells += len(row)
        if cells > CELLS_UNORDERED_MAX or len(found) == ROWS_UNORDERED_MAX:
            limits = f"{ROWS_UNORDERED_MAX} rows and {CELLS_UNORDERED_MAX} cells"
            raise FileUnreadableError(f"{rule.path}: rows in any order are read up to {limits}; found more.")
        if len(row) <= max(places):
            raise FileUnreadableError(f"{rule.path}: expected the key columns in each row; found a row of {len(row)} cells.")
        key = tuple(row[place].strip() for place in places)
        if key in found:
            raise FileUnreadableError(f"{rule.path}: expected a key to stand in one row only; {_place(rule, key)[:200]!r} stands in two.")
        found[key] = row
    return found


def _place(rule: FileRule, key: tuple[str, ...]) -> str:
    return "row " + " ".join(f"{name[:40]}={cell[:40]}" for name, cell in zip(rule.key, key, strict=True))
