"""Charts as SVG: axes with units, one direct label, colours by meaning (static/portal/charts.css). Pure; drawn from numbers only.

A chart shows a series over time. Gaps (None) stay gaps: a line across them would claim what nobody measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

WIDTH: Final = 320
HEIGHT: Final = 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 16, 22
_NICE: Final = (1.0, 2.0, 2.5, 5.0, 10.0)

Point = tuple[datetime, float | None]
"""When, and how much; None where it wasn't measured. A chart's points ascend in time."""


def scale_top(largest: float) -> float:
    """The round number at or above `largest` at which an axis ends; 1.0 for nothing or less."""
    if not math.isfinite(largest) or largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in _NICE if step * power >= largest * (1 - 1e-9))


def number_short(value: float) -> str:
    """Three significant digits with a suffix of size: 0.25, 12.5, 1.25k, 3M."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def line_chart_svg(points: Sequence[Point], *, name: str, unit: str, meaning: str = "running", top: float | None = None) -> str:
    """A line over time with its area; "" for fewer than two points.

    `name` is read to those who don't see it and must be ours, not a stranger's text. `meaning`: verified, running, waiting, broken.
    `top` fixes the axis, at the round number above it: small multiples share one scale.
    """
    measured = [(at.timestamp(), value) for at, value in points if value is not None and math.isfinite(value)]
    if len(measured) < 2:
        return ""
    first, last = points[0][0].timestamp(), points[-1][0].timestamp()
    span = max(last - first, 1e-9)
    ceiling = scale_top(max(value for _, value in measured) if top is None else top)

    def x(at: float) -> float:
        return round(_LEFT + (at - first) / span * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - min(max(value, 0.0), ceiling) / ceiling * (HEIGHT - _TOP - _BOTTOM), 1)

    base = y(0)
    parts = []
    for run in _runs(points):
        line = "".join(f"{'M' if place == 0 else 'L'}{x(at)} {y(value)}" for place, (at, value) in enumerate(run))
        parts.append(f'<path class="area" d="{line}L{x(run[-1][0])} {base}L{x(run[0][0])} {base}Z"/><path class="line" d="{line}"/>')
    newest_at, newest = measured[-1]
    ticks = "".join(
        f'<path class="grid" d="M{_LEFT} {y(part * ceiling)}H{WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{y(part * ceiling) + 4}" text-anchor="end">{number_short(part * ceiling)}</text>'
        for part in (0.0, 0.5, 1.0)
    )
    format_ = "%H:%M" if span < 2 * 86400 else "%m-%d"
    return (
        f'<svg class="chart chart-{meaning}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{name}: {number_short(newest)} {unit} at the end, at most {number_short(max(v for _, v in measured))} {unit}">'
        f"{ticks}{''.join(parts)}"
        f'<text class="label" x="{min(x(newest_at), WIDTH - _RIGHT)}" y="{max(y(newest) - 6, 10)}" text-anchor="end">'
        f"{number_short(newest)} {unit}</text>"
        f'<text x="{_LEFT}" y="{HEIGHT - 6}">{points[0][0].strftime(format_)}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{points[-1][0].strftime(format_)}</text></svg>'
    )


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append((at.timestamp(), value))
    return [run for run in runs if run]
