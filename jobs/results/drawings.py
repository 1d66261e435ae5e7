"""A structure as a flat drawing, seen along z: what is shown without JavaScript, and before it has begun. Pure; never raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from jobs.results.structures import Shown

DRAWN_MAX: Final = 3000
"""Atoms; the nearest ones."""


@dataclass(frozen=True)
class Drawing:
    """The flat drawing: lines from far to near and circles likewise."""

    width: int
    height: int
    lines: list[tuple[str, float, float, float, float]]
    """(colour class, from, to)."""
    circles: list[tuple[str, float, float, float]]
    """(colour class, centre, radius)."""
    paths: list[str]
    left_out: int


def drawing_of(shown: Shown, *, is_backbone: bool) -> Drawing:
    """Traces only, or atoms and bonds, seen along z."""
    width, height = 640, 480
    across, up = (float(np.abs(shown.points[:, axis]).max(initial=0.0)) + 2.0 for axis in (0, 1))
    scale = min(width / 2 / across, height / 2 / up)
    flat = [(round(width / 2 + x * scale, 1), round(height / 2 - y * scale, 1)) for x, y, _ in shown.points.tolist()]
    if is_backbone and shown.traces:
        paths = ["M" + "L".join(f"{flat[place][0]} {flat[place][1]}" for place in trace) for trace in shown.traces]
        ends = [("c", *flat[place], 3.0) for trace in shown.traces for place in (trace[0], trace[-1])]
        return Drawing(width, height, [], ends, paths, 0)
    depth = shown.points[:, 2]
    nearest = sorted(range(len(flat)), key=lambda place: float(depth[place]))[-DRAWN_MAX:]
    drawn = set(nearest)
    radius = round(max(2.0, min(0.38 * scale, 14.0)), 1)
    lines: list[tuple[str, float, float, float, float]] = []
    for one, other in shown.bonds:
        if one in drawn and other in drawn:
            middle = (round((flat[one][0] + flat[other][0]) / 2, 1), round((flat[one][1] + flat[other][1]) / 2, 1))
            lines += [(shown.colours[one], *flat[one], *middle), (shown.colours[other], *middle, *flat[other])]
    circles = [(shown.colours[place], *flat[place], round(radius * 0.6, 1) if shown.colours[place] == "h" else radius) for place in nearest]
    return Drawing(width, height, lines, circles, [], len(flat) - len(nearest))
