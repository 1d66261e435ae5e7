"""The comparator of each format. A new one is a file with such a function, its name in `FileFormat`, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from jobs.comparison.delimited import csv_compare, tsv_compare
from jobs.comparison.mmcif import mmcif_compare
from jobs.comparison.npy import npy_compare
from jobs.comparison.npz import npz_compare
from jobs.comparison.pdb import pdb_compare
from jobs.comparison.reading import FILE_BYTES_MAX, FileUnreadableError
from jobs.comparison.report import FileReport, Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.text_tables import text_compare
from jobs.comparison.trees import json_compare
from jobs.descriptor.formats import FileFormat


class Comparator(Protocol):
    """Compares two versions of the file `rule.path`, each of at most FILE_BYTES_MAX bytes, into `tally`.

    Raises FileUnreadableError when either can't be read, whichever comes first, and nothing else. Symmetric, but for which value is shown
    as which; the same bytes agree, unless they hold NaN and the rule refuses it. Takes time and memory in proportion to the bytes, and does
    nothing but compute.
    """

    def __call__(self, rule: FileRule, one: bytes, other: bytes, tally: Tally, /) -> None: ...


def bytes_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """As many differences as differ bytes would say nothing: one value, the file."""
    if one == other:
        tally.equal()
    else:
        tally.disagrees("bytes", f"{len(one)} bytes", f"{len(other)} bytes")


COMPARATORS: Final[Mapping[FileFormat, Comparator]] = {
    FileFormat.BYTES: bytes_compare,
    FileFormat.CSV: csv_compare,
    FileFormat.TSV: tsv_compare,
    FileFormat.TEXT: text_compare,
    FileFormat.JSON: json_compare,
    FileFormat.NPY: npy_compare,
    FileFormat.NPZ: npz_compare,
    FileFormat.PDB: pdb_compare,
    FileFormat.MMCIF: mmcif_compare,
}


def files_compare(rule: FileRule, one: bytes, other: bytes) -> FileReport:
    """What was found in two versions of the file `rule.path`. Raises FileUnreadableError."""
    if rule.file_format is None:
        raise FileUnreadableError(f"{rule.path}: its ending stands for no format. Name the format in the job's rules.")
    if (found := max(len(one), len(other))) > FILE_BYTES_MAX:
        raise FileUnreadableError(f"{rule.path}: comparison by value reads files of at most {FILE_BYTES_MAX} bytes; found {found}.")
    tally = Tally(rule.path)
    COMPARATORS[rule.file_format](rule, one, other, tally)
    return tally.report(rule.file_format)
