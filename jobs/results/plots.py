"""Columns of a table as charts over another one: places and labels that a template draws as SVG. Pure; never raises.

Each column has a panel of its own, all over the same x: two quantities on one scale say little. What is no number is a gap. More points
than pixels are drawn as the least and the greatest of each pixel's, so that no spike is lost.

A drawing is HEIGHT pixels high and stretched to the width that there is; labels stand beside and below it, so that nothing squeezes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 180
PANELS_MAX: Final = 4
_BINS: Final = WIDTH
_DOTS_MAX: Final = 60
"""With at most so many points each has a dot."""
_TICKS: Final = 5
_NICE: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LARGEST: Final = 1e300
"""Beyond it differences overflow; such numbers are gaps."""


@dataclass(frozen=True)
class Tick:
    """A grid line and its number. `place`: of y in pixels from the top, of x in percent from the left."""

    place: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One column over x. `path` draws its line, `dots` a point each, in a box of WIDTH by HEIGHT; empty where there is nothing to draw."""

    name: str
    path: str
    dots: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    least: str
    greatest: str
    points: int


def panel_of(name: str, xs: Sequence[float], ys: Sequence[float]) -> Panel:
    """`xs` and `ys` are of one length, NaN where there is no number."""
    known = [(x, y) for x, y in zip(xs, ys, strict=True) if abs(x) <= _LARGEST and abs(y) <= _LARGEST]
    if not known:
        return Panel(name, "", "", [], [], "", "", 0)
    left, right = _span([x for x, _ in known])
    bottom, top = _span([y for _, y in known])

    def place(x: float, y: float) -> tuple[float, float]:
        return round((x - left) / (right - left) * WIDTH, 1), round((top - y) / (top - bottom) * HEIGHT, 1)

    ascending = all(one <= other for (one, _), (other, _) in pairwise(known))
    placed = [place(x, y) if abs(x) <= _LARGEST and abs(y) <= _LARGEST else None for x, y in zip(xs, ys, strict=True)]
    points = [point for point in placed if point is not None]
    dots = sorted(set(points))[: 4 * _BINS] if not ascending or len(points) <= _DOTS_MAX else []
    values = [y for _, y in known]
    return Panel(
        name,
        _path(placed) if ascending else "",
        "".join(f"M{across:g} {down:g}h0" for across, down in dots),
        [Tick(round(100 * place(at, bottom)[0] / WIDTH, 1), label) for at, label in _ticks(left, right)],
        [Tick(place(left, at)[1], label) for at, label in _ticks(bottom, top)],
        f"{min(values):.5g}",
        f"{max(values):.5g}",
        len(points),
    )


def _path(placed: Sequence[tuple[float, float] | None]) -> str:
    parts: list[str] = []
    run: list[tuple[float, float]] = []
    for point in (*placed, None):
        if point is not None:
            run.append(point)
        elif run:
            parts.append("".join(f"{'L' if number else 'M'}{x:g} {y:g}" for number, (x, y) in enumerate(_thinned(run))))
            run = []
    return "".join(parts)


def _thinned(run: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of each pixel's points the first, the highest, the lowest and the last."""
    if len(run) <= 2 * _BINS:
        return run
    found: list[tuple[float, float]] = []
    start = 0
    for place in range(1, len(run) + 1):
        if place == len(run) or int(run[place][0]) != int(run[start][0]):
            part = range(start, place)
            kept = {start, place - 1, min(part, key=lambda at: run[at][1]), max(part, key=lambda at: run[at][1])}
            found += [run[at] for at in sorted(kept)]
            start = place
    return found


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis; never equal."""
    least, greatest = min(values), max(values)
    if least == greatest:
        margin = abs(least) * 0.1 or 1.0
        return least - margin, greatest + margin
    margin = (greatest - least) * 0.04
    return least - margin, greatest + margin


def _ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Round numbers within the axis, at most about _TICKS of them."""
    rough = (last - first) / _TICKS
    if rough < 1e-290:  # the power of ten below would be none
        return [(first, f"{first:.4g}")]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in _NICE if factor * power >= rough), 10 * power)
    begin = math.ceil(first / step)
    return [(at, f"{at:.6g}") for at in ((begin + number) * step for number in range(_TICKS + 2)) if first <= at <= last]
