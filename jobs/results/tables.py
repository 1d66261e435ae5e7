"""The beginning of a table: rows to be shown, and columns as numbers to be plotted. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Final

from jobs.comparison.delimited import delimited_table
from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.rules import FileRule
from jobs.comparison.scalars import number_of
from jobs.comparison.text_tables import text_table
from jobs.descriptor.formats import FileFormat
from jobs.results.texts import text_head

TABLE_BYTES: Final = 4 * 2**20
ROWS_SHOWN: Final = 500
ROWS_READ: Final = 20_000
COLUMNS_SHOWN: Final = 50
_CELL_CHARACTERS: Final = 200
_NUMERIC_SHARE: Final = 0.5
"""A column is offered for plotting when at least so many of its cells are numbers."""


@dataclass(frozen=True)
class TableHead:
    """Names of columns and the first rows, as text; `is_cut`: the file goes on, or its rows do."""

    names: list[str]
    rows: list[list[str]]
    is_cut: bool
    columns_left_out: int

    @property
    def shown(self) -> list[list[tuple[str, bool]]]:
        """The first ROWS_SHOWN rows; (cell, whether it is a number)."""
        return [[(cell, number_of(cell) is not None) for cell in row] for row in self.rows[:ROWS_SHOWN]]

    def column(self, place: int) -> list[float]:
        """The numbers of a column, NaN where a cell is none."""
        numbers = (number_of(row[place]) if place < len(row) else None for row in self.rows)
        return [math.nan if number is None else number for number in numbers]

    def numeric(self) -> list[int]:
        """Places of the columns that can be plotted."""
        least = _NUMERIC_SHARE * len(self.rows)
        return [place for place in range(len(self.names)) if sum(map(math.isfinite, self.column(place))) > least]


def table_head(rule: FileRule, data: bytes, *, is_whole: bool) -> TableHead:
    """The table in the beginning of a file; of a cut one without its last line. Raises FileUnreadableError."""
    if not is_whole:
        data = data[: data.rfind(b"\n") + 1]
    match rule.file_format:
        case FileFormat.CSV:
            table = delimited_table(rule, data, ",")
        case FileFormat.TSV:
            table = delimited_table(rule, data, "\t")
        case _:
            table = text_table(rule, data)
    rows: list[list[str]] = []
    try:
        for row in islice(table.rows, ROWS_READ + 1):
            rows.append(_row(row))  # noqa: PERF401  what was read before an error is kept
    except FileUnreadableError:
        if is_whole:
            raise
    names = [_shown(name) or str(place + 1) for place, name in enumerate(table.names[:COLUMNS_SHOWN])]
    left_out = max(0, len(table.names) - COLUMNS_SHOWN)
    return TableHead(names, rows[:ROWS_READ], not is_whole or len(rows) > ROWS_READ, left_out)


def _row(row: list[str]) -> list[str]:
    return [_shown(cell.strip()) for cell in row[:COLUMNS_SHOWN]]


def _shown(cell: str) -> str:
    if cell.isascii() and cell.isprintable() and len(cell) <= _CELL_CHARACTERS:
        return cell
    cut = cell[:_CELL_CHARACTERS]
    return text_head(cut.encode("utf-8", "replace")).text + ("…" if len(cell) > len(cut) else "")
