"""How a log's tiles are addressed (C2SP tlog-tiles): 256 hashes a tile, and indexes in groups of three digits."""

from __future__ import annotations

import re
from typing import Final

TILE_WIDTH: Final = 256
_PLACE: Final = re.compile(r"(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?")


def place_text(index: int) -> str:
    """The index as tlog-tiles writes it: groups of three digits, all but the last after an `x`."""
    groups = f"{index:,}".split(",")
    groups[0] = groups[0].zfill(3)
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def place_parse(text: str) -> tuple[int, int] | None:
    """(index, width) of a tlog-tiles path such as `x001/x234/067` or `067.p/12`; None for anything else."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    index = int("".join(re.findall(r"\d{3}", match["index"])))
    width = int(match["width"] or TILE_WIDTH)
    is_canonical = place_text(index) == match["index"] and (match["width"] is None or 0 < width < TILE_WIDTH)
    return (index, width) if is_canonical else None
