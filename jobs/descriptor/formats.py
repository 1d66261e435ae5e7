"""The formats of output files that can be compared value by value, and which rules each knows. Pure.

A format is known by the ending of a file's name, or named by the descriptor. `jobs.comparison` has a comparator for each.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class FileFormat(StrEnum):
    """How the bytes of a compared file are read. `bytes`: not at all; they are equal or not."""

    BYTES = "bytes"
    CSV = "csv"
    TSV = "tsv"
    TEXT = "text"
    JSON = "json"
    NPY = "npy"
    NPZ = "npz"
    PDB = "pdb"
    MMCIF = "mmcif"


class NanPolicy(StrEnum):
    """`equal`: not-a-number agrees with not-a-number. `refuse`: it agrees with nothing, so a file that holds one does not with itself."""

    EQUAL = "equal"
    REFUSE = "refuse"


class RowOrder(StrEnum):
    """`fixed`: the first row is compared with the first. `any`: rows are matched by the cells of their key columns."""

    FIXED = "fixed"
    ANY = "any"


TABLES: Final = frozenset({FileFormat.CSV, FileFormat.TSV, FileFormat.TEXT})
STRUCTURES: Final = frozenset({FileFormat.PDB, FileFormat.MMCIF})
WITH_COLUMNS: Final = TABLES | {FileFormat.JSON, FileFormat.NPY, FileFormat.NPZ}
"""A column is one of a table, a member at the top of a JSON object, a field of an NPY array, an array of an NPZ."""

_BY_ENDING: Final = {
    "csv": FileFormat.CSV,
    "tsv": FileFormat.TSV,
    "txt": FileFormat.TEXT,
    "dat": FileFormat.TEXT,
    "xvg": FileFormat.TEXT,
    "json": FileFormat.JSON,
    "npy": FileFormat.NPY,
    "npz": FileFormat.NPZ,
    "pdb": FileFormat.PDB,
    "ent": FileFormat.PDB,
    "cif": FileFormat.MMCIF,
    "mmcif": FileFormat.MMCIF,
}


def format_of(path: str) -> FileFormat | None:
    """The format that the name's ending stands for (case ignored); None for any other ending, and without one."""
    name = path.rpartition("/")[2]
    return _BY_ENDING.get(name.rpartition(".")[2].lower()) if "." in name else None
