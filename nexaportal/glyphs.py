"""Glyphs: a small drawing for each digest, so that people recognise a node or a result at a glance. Pure and deterministic.

Five by five cells, the left half mirrored, each empty, light or full: 3^15 drawings. An aid to the eye, never a proof: who must be
certain compares the digests.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

CELLS: Final = 5
_HALF: Final = 3
_TONES: Final = ("", ".45", "1")


def glyph_cells(digest: str) -> list[tuple[int, int, str]]:
    """(column, row, opacity) of the cells that are drawn, from the SHA-256 of the text: any string has a glyph."""
    raw = hashlib.sha256(digest.encode("utf-8", "surrogatepass")).digest()
    cells = []
    for row in range(CELLS):
        for column in range(_HALF):
            tone = _TONES[raw[row * _HALF + column] % 3]
            if tone:
                cells += [(place, row, tone) for place in sorted({column, CELLS - 1 - column})]
    return cells


@lru_cache(maxsize=4096)  # lists show the same nodes, people and digests again and again
def glyph_svg(digest: str, *, size_px: int = 15) -> str:
    """The drawing as inline SVG in the text's colour. Holds nothing of `digest` itself, so hostile text can't get in."""
    paths = [
        f'<path fill-opacity="{tone}" d="{"".join(f"M{x} {y}h1v1h-1z" for x, y, found in glyph_cells(digest) if found == tone)}"/>'
        for tone in _TONES[1:]
    ]
    return (
        f'<svg class="glyph" width="{size_px}" height="{size_px}" viewBox="0 0 {CELLS} {CELLS}" fill="currentColor" '
        f'shape-rendering="crispEdges" aria-hidden="true" focusable="false">{"".join(paths)}</svg>'
    )
