"""What a page shows of one file in one way: the template of that way and what it needs. Pure but for reading the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jobs.comparison.rules import FileRule
from jobs.descriptor.formats import FileFormat
from jobs.results import arrays, drawings, images, plots, structures, tables, texts, trees
from jobs.results.archive_index import ArchiveIndex, IndexedFile
from jobs.results.kinds import Way

_BYTES: Final[Mapping[Way, int]] = {
    Way.STRUCTURE: structures.STRUCTURE_BYTES + 1,
    Way.TABLE: tables.TABLE_BYTES,
    Way.PLOT: tables.TABLE_BYTES,
    Way.TREE: trees.TREE_BYTES + 1,
    Way.ARRAYS: arrays.ARRAY_BYTES + 1,
    Way.IMAGE: images.IMAGE_BYTES_MAX,
    Way.TEXT: texts.TEXT_BYTES,
    Way.HEX: texts.HEX_BYTES,
}
"""How much of a file is read; one byte beyond the limit where a viewer needs all of it and refuses more."""


class Asked(Protocol):
    """What the address asks for: a `QueryDict`."""

    def get(self, key: str, default: str, /) -> str: ...
    def getlist(self, key: str, /) -> list[str]: ...


@dataclass(frozen=True)
class Look:
    """What is shown: `context` for the template `jobs/results/_<way>.html`."""

    way: Way
    context: dict[str, Any]


def look_at(index: ArchiveIndex, file: IndexedFile, rule: FileRule, way: Way, asked: Asked) -> Look:
    """Raises VerificationError: the file is not what its name says, or too large for this way."""
    data = index.read(file, limit_bytes=_BYTES[way])
    is_whole = len(data) == file.size_bytes
    match way:
        case Way.STRUCTURE:
            context = _structure(rule, data, asked)
        case Way.TABLE:
            context = {"table": tables.table_head(rule, data, is_whole=is_whole), "rows_shown": tables.ROWS_SHOWN}
        case Way.PLOT:
            context = _plot(tables.table_head(rule, data, is_whole=is_whole), asked)
        case Way.TREE:
            context = {"steps": trees.tree_steps(file.path, data)}
        case Way.ARRAYS:
            context = {"arrays": arrays.arrays_read(file.path, _format_of(rule), data)}
        case Way.IMAGE:
            context = {"image": _image(file, data)}
        case Way.TEXT:
            context = {"head": texts.text_head(data), "is_whole": is_whole}
        case Way.HEX:
            context = {"head": texts.hex_head(data), "is_whole": is_whole}
    return Look(way, context)


def image_of(index: ArchiveIndex, file: IndexedFile) -> tuple[images.ImageHeader, bytes]:
    """The image to be served. Raises VerificationError."""
    data = index.read(file, limit_bytes=_BYTES[Way.IMAGE])
    return _image(file, data), data


def structure_of(index: ArchiveIndex, file: IndexedFile, rule: FileRule, asked: Asked) -> structures.Shown:
    """The model that is asked for. Raises VerificationError."""
    data = index.read(file, limit_bytes=_BYTES[Way.STRUCTURE])
    return structures.structure_read(rule.path, _format_of(rule), data, model=asked.get("model", ""))


def _image(file: IndexedFile, data: bytes) -> images.ImageHeader:
    if file.size_bytes > images.IMAGE_BYTES_MAX:
        raise images.ImageUnshowableError(
            f"{file.path}: expected an image of at most {images.IMAGE_BYTES_MAX} bytes; found {file.size_bytes}. Download it to look at it."
        )
    return images.image_read(file.path, data)


def _structure(rule: FileRule, data: bytes, asked: Asked) -> dict[str, Any]:
    shown = structures.structure_read(rule.path, _format_of(rule), data, model=asked.get("model", ""))
    is_backbone = asked.get("draw", "") == "backbone" and bool(shown.traces)
    drawing = drawings.drawing_of(shown, is_backbone=is_backbone)
    return {"shown": shown, "drawing": drawing, "is_backbone": is_backbone, "atoms_max": structures.ATOMS_MAX}


def _plot(table: tables.TableHead, asked: Asked) -> dict[str, Any]:
    """By default the first column of numbers is x and the next ones are drawn."""
    numeric = table.numeric()
    x = _place(asked.get("x", ""), numeric)
    if x is None and not asked.get("x", "") and len(numeric) > 1:
        x = numeric[0]
    wanted = [place for text in asked.getlist("y") if (place := _place(text, numeric)) is not None]
    ys = (list(dict.fromkeys(wanted)) or [place for place in numeric if place != x])[: plots.PANELS_MAX]
    xs = table.column(x) if x is not None else [float(number) for number in range(1, len(table.rows) + 1)]
    return {
        "table": table,
        "columns": [(place, table.names[place], place in ys) for place in numeric],
        "x": x,
        "x_name": table.names[x] if x is not None else "row",
        "panels": [plots.panel_of(table.names[place], xs, table.column(place)) for place in ys],
        "panels_max": plots.PANELS_MAX,
        "size": {"width": plots.WIDTH, "height": plots.HEIGHT},
    }


def _place(text: str, numeric: list[int]) -> int | None:
    """A column's place, counted from 0, if it can be plotted."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 and int(text) in numeric else None


def _format_of(rule: FileRule) -> FileFormat:
    return rule.file_format or FileFormat.BYTES
