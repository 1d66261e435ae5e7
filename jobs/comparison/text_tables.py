"""Plain text tables: columns between spaces, as gnuplot, Grace (xvg) and most programs of science write them.

Lines that start with # or @, after spaces, are comments: they hold dates, paths and legends, and are not compared. Blank lines are no rows.
The first row is the header when no cell of it is a number, unless the rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.comparison.reading import text_lines
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.scalars import number_of
from jobs.comparison.tables import Table, table_of, tables_compare


def text_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    tables_compare(rule, text_table(rule, one), text_table(rule, other), tally)


def text_table(rule: FileRule, data: bytes) -> Table:
    """The table in these bytes. It and its rows raise FileUnreadableError."""
    return table_of(rule, _rows(rule.path, data), header=lambda first: all(number_of(cell) is None for cell in first))


def _rows(path: str, data: bytes) -> Iterator[list[str]]:
    for line in text_lines(path, data):
        row = line.split()
        if row and row[0][0] not in "#@":
            yield row
