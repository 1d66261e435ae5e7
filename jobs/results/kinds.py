"""Which ways there are to look at a file, by its name, its format and its first bytes. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from jobs.descriptor.formats import FileFormat
from jobs.results.images import image_type
from jobs.results.texts import is_text

HEAD_BYTES: Final = 4096
"""How much of a file decides."""


class Way(StrEnum):
    """A way to look at a file; the value stands in its address (`?as=`)."""

    STRUCTURE = "structure"
    TABLE = "table"
    PLOT = "plot"
    TREE = "tree"
    ARRAYS = "arrays"
    IMAGE = "image"
    TEXT = "text"
    HEX = "hex"


_BY_FORMAT: Final[dict[FileFormat, tuple[Way, ...]]] = {
    FileFormat.CSV: (Way.TABLE, Way.PLOT),
    FileFormat.TSV: (Way.TABLE, Way.PLOT),
    FileFormat.TEXT: (Way.TABLE, Way.PLOT),
    FileFormat.JSON: (Way.TREE,),
    FileFormat.PDB: (Way.STRUCTURE,),
    FileFormat.MMCIF: (Way.STRUCTURE,),
    FileFormat.NPY: (Way.ARRAYS,),
    FileFormat.NPZ: (Way.ARRAYS,),
    FileFormat.BYTES: (),
}
_PROSE: Final = ".txt"
"""A text table may be called so, but so may notes: they are shown as text first."""
_MEDIA_TYPES: Final = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "dat": "text/plain",
    "xvg": "text/plain",
    "log": "text/plain",
    "md": "text/markdown",
    "json": "application/json",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
    "pdb": "chemical/x-pdb",
    "ent": "chemical/x-pdb",
    "cif": "chemical/x-mmcif",
    "mmcif": "chemical/x-mmcif",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "html": "text/html",
    "htm": "text/html",
    "xml": "application/xml",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
}
_UNKNOWN: Final = "application/octet-stream"


def media_type_of(path: str) -> str:
    """What the name's ending claims, to be shown and never to be served."""
    name = path.rpartition("/")[2]
    return _MEDIA_TYPES.get(name.rpartition(".")[2].lower(), _UNKNOWN) if "." in name else _UNKNOWN


def ways_of(path: str, file_format: FileFormat | None, head: bytes) -> tuple[Way, ...]:
    """The ways to look at a file that begins with `head`, the best first; `hex` is always one."""
    if image_type(head) is not None:
        return (Way.IMAGE, Way.HEX)
    ways = _BY_FORMAT[file_format] if file_format is not None else ()
    if not is_text(head):
        return (*(way for way in ways if way is Way.ARRAYS), Way.HEX)
    ways = tuple(way for way in ways if way is not Way.ARRAYS)
    if file_format is FileFormat.TEXT and path.lower().endswith(_PROSE):
        return (Way.TEXT, *ways, Way.HEX)
    return (*ways, Way.TEXT, Way.HEX)
