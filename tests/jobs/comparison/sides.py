"""Comparison of two versions of a file in both orders, which must tell the same."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.comparison import FileUnreadableError
from jobs.comparison.comparators import files_compare
from jobs.comparison.report import FileReport
from jobs.comparison.rules import FileRule, Tolerance
from jobs.descriptor.formats import format_of

LOOSE = Tolerance(absolute=0.5, relative=0.01)


def rule_of(path: str, tolerance: Tolerance = LOOSE, columns: Mapping[str, Tolerance] | None = None, **rules: Any) -> FileRule:
    return FileRule(path, format_of(path), tolerance, columns or {}, **rules)


def compared(rule: FileRule, one: str | bytes, other: str | bytes) -> FileReport:
    first, second = (side.encode() if isinstance(side, str) else side for side in (one, other))
    forth, back = files_compare(rule, first, second), files_compare(rule, second, first)
    assert figures(forth) == figures(back)
    json.dumps(forth.document(), allow_nan=False)
    return forth


def agree(rule: FileRule, one: str | bytes, other: str | bytes) -> bool:
    return compared(rule, one, other).exceeding == 0


def attempt(rule: FileRule, one: bytes, other: bytes) -> FileReport | None:
    """None: not readable, whichever comes first."""
    try:
        forth = files_compare(rule, one, other)
    except FileUnreadableError:
        forth = None
    try:
        back = files_compare(rule, other, one)
    except FileUnreadableError:
        back = None
    assert (forth and figures(forth)) == (back and figures(back))
    return forth


def figures(report: FileReport) -> tuple[Any, ...]:
    """All of a report that must not depend on which result comes first."""
    worst = report.worst and (report.worst.difference, report.worst.allowed, report.worst.file)
    return report.compared, report.exceeding, worst, report.measures


def npy(array: Any, **options: Any) -> bytes:
    """The bytes that NumPy writes for `array`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=True, **options)
    return stream.getvalue()


def npz(*, compress: bool = False, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, **arrays)
    return stream.getvalue()
