"""CSV (RFC 4180) and TSV. The first row is the header, unless the rule says otherwise; blank lines are no rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from jobs.comparison.reading import LINE_CHARACTERS_MAX, FileUnreadableError, text_lines
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.tables import Table, table_of, tables_compare


def csv_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    tables_compare(rule, delimited_table(rule, one, ","), delimited_table(rule, other, ","), tally)


def tsv_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    tables_compare(rule, delimited_table(rule, one, "\t"), delimited_table(rule, other, "\t"), tally)


def delimited_table(rule: FileRule, data: bytes, delimiter: str) -> Table:
    """The table in these bytes. It and its rows raise FileUnreadableError."""
    return table_of(rule, _rows(rule.path, data, delimiter), header=lambda first: True)


def _rows(path: str, data: bytes, delimiter: str) -> Iterator[list[str]]:
    characters = 0

    def lines() -> Iterator[str]:
        nonlocal characters
        for line in text_lines(path, data, newline=""):
            characters += len(line)
            if characters > LINE_CHARACTERS_MAX:  # a row goes on over many lines
                raise FileUnreadableError(f"{path}: expected rows of at most {LINE_CHARACTERS_MAX} characters; found a longer one.")
            yield line

    try:
        for row in csv.reader(lines(), delimiter=delimiter, strict=True):
            characters = 0
            if row:
                yield row
    except csv.Error as error:
        raise FileUnreadableError(f"{path}: expected a table; {error}.") from error
