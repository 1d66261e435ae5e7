"""Numeric comparison of one output file of two replicas: CSV, TSV, JSON.

1. A table agrees when it has the same header, the same number of rows, and agreeing cells; a JSON document when it has the same shape and
   agreeing leaves. Cells and leaves that are not both numbers must be equal.
2. Rules may name columns (of a table) or members (of a JSON object at the top) that have a tolerance of their own; they must be there.
3. Whatever the bytes are, the only error is FileUnreadableError; a file that can't be read agrees with nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.comparison.tolerance import Deviation, Tolerance, numbers_compare, texts_compare, worst_of
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError

FILE_BYTES_MAX = 16 * 2**20
"""A table or tree takes many times its bytes while it is compared; this bounds what a stranger's file costs a verify worker."""
NUMBER_CHARACTERS_MAX = 400
"""Longer cells are texts."""
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
"""Has one way to match anything, so that a long cell costs time in proportion to its length."""


class FileUnreadableError(VerificationError):
    """A file is not what its name says, or too large to compare."""

    code = "output_unreadable"


@dataclass(frozen=True)
class FileRule:
    """How one file is compared: with `tolerance`, except where `columns` names another."""

    path: str
    tolerance: Tolerance
    columns: Mapping[str, Tolerance] = field(default_factory=dict)


def numeric_supported(path: str) -> bool:
    """Whether the name's ending is one that is compared as numbers."""
    return path.rpartition(".")[2].lower() in {"csv", "tsv", "json"}


def files_compare(rule: FileRule, one: bytes, other: bytes) -> Deviation | None:
    """The worst deviation between two versions of the file `rule.path`, None where there is none. Raises FileUnreadableError."""
    if max(len(one), len(other)) > FILE_BYTES_MAX:
        found = max(len(one), len(other))
        raise FileUnreadableError(f"{rule.path}: numeric comparison reads files of at most {FILE_BYTES_MAX} bytes; found {found}.")
    match rule.path.rpartition(".")[2].lower():
        case "json":
            return worst_of(_documents_compare(rule, _document(rule.path, one), _document(rule.path, other)))
        case "tsv":
            return worst_of(_tables_compare(rule, _table(rule.path, one, "\t"), _table(rule.path, other, "\t")))
        case "csv":
            return worst_of(_tables_compare(rule, _table(rule.path, one, ","), _table(rule.path, other, ",")))
        case ending:
            raise FileUnreadableError(f"{rule.path}: numeric comparison reads csv, tsv and json; found {ending!r}. Compare it exactly.")


def _table(path: str, data: bytes, delimiter: str) -> list[list[str]]:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True)
        rows = [row for row in reader if row]  # blank lines are not rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileUnreadableError(f"{path}: expected a UTF-8 table; {error}.") from error
    if not rows:
        raise FileUnreadableError(f"{path}: expected a header row, found an empty file.")
    return rows


def _tables_compare(rule: FileRule, one: list[list[str]], other: list[list[str]]) -> Iterator[Deviation]:
    if one[0] != other[0]:
        yield Deviation(rule.path, "header", ",".join(one[0])[:80], ",".join(other[0])[:80], float("inf"), 0.0)
        return
    if len(one) != len(other):
        yield Deviation(rule.path, "number of rows", str(len(one) - 1), str(len(other) - 1), float("inf"), 0.0)
        return
    header = one[0]
    for name in rule.columns:
        if header.count(name) != 1:
            raise FileUnreadableError(f"{rule.path}: expected exactly one column {name!r}; the header has {header.count(name)}.")
    tolerances = [rule.columns.get(name, rule.tolerance) for name in header]
    for number, (row, counterpart) in enumerate(zip(one[1:], other[1:], strict=True), start=1):
        if len(row) != len(header) or len(counterpart) != len(header):
            if row != counterpart:
                yield Deviation(rule.path, f"row {number}", f"{len(row)} cells", f"{len(counterpart)} cells", float("inf"), 0.0)
            continue
        for name, tolerance, cell, other_cell in zip(header, tolerances, row, counterpart, strict=True):
            if found := _cells_compare(rule.path, f"row {number}, {name}", cell, other_cell, tolerance):
                yield found


def _cells_compare(path: str, place: str, one: str, other: str, tolerance: Tolerance) -> Deviation | None:
    one, other = one.strip(), other.strip()
    if one != other and _is_number(one) and _is_number(other):
        return numbers_compare(path, place, float(one), float(other), tolerance)
    return texts_compare(path, place, one, other)


def _is_number(cell: str) -> bool:
    return len(cell) <= NUMBER_CHARACTERS_MAX and _NUMBER.fullmatch(cell) is not None


def _document(path: str, data: bytes) -> Any:
    try:
        return json_parse(data, limit_bytes=FILE_BYTES_MAX)
    except VerificationError as error:
        raise FileUnreadableError(f"{path}: expected JSON; {error}") from error


def _documents_compare(rule: FileRule, one: Any, other: Any) -> Iterator[Deviation]:
    for name in rule.columns:
        if not (isinstance(one, dict) and isinstance(other, dict) and name in one and name in other):
            raise FileUnreadableError(f"{rule.path}: expected a JSON object with the member {name!r} in both results.")
    if not (rule.columns and one.keys() == other.keys()):
        yield from _values_compare(rule.path, "", one, other, rule.tolerance)
        return
    for name in one:
        yield from _values_compare(rule.path, f"/{name}", one[name], other[name], rule.columns.get(name, rule.tolerance))


def _values_compare(path: str, place: str, one: Any, other: Any, tolerance: Tolerance) -> Iterator[Deviation]:
    match one, other:
        case (bool() | None, _) | (_, bool() | None):
            found = None if one is other else Deviation(path, place or "/", _shape(one), _shape(other), float("inf"), 0.0)
        case (int() | float(), int() | float()):
            found = numbers_compare(path, place or "/", float(one), float(other), tolerance)  # the parser bounds integers
        case (dict(), dict()) if one.keys() == other.keys():
            for name in one:
                yield from _values_compare(path, f"{place}/{name}", one[name], other[name], tolerance)
            return
        case (list(), list()) if len(one) == len(other):
            for index, (item, counterpart) in enumerate(zip(one, other, strict=True)):
                yield from _values_compare(path, f"{place}/{index}", item, counterpart, tolerance)
            return
        case (str(), str()):
            found = texts_compare(path, place or "/", one, other)
        case _:
            found = Deviation(path, place or "/", _shape(one), _shape(other), float("inf"), 0.0)
    if found:
        yield found


def _shape(value: Any) -> str:
    match value:
        case dict():
            return f"object with {len(value)} members"
        case list():
            return f"list of {len(value)}"
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case _:
            return "text" if isinstance(value, str) else "number"
