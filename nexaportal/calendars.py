"""A calendar of contributed days as SVG: 53 weeks, a column a week from Monday down, darker where more was done. Pure; numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

WEEKS: Final = 53
LEVELS: Final = 4
_CELL: Final = 20
_SIZE: Final = 17
_LEFT: Final = 36
_TOP: Final = 20

WorkedDay = tuple[date, int, int]
"""A day, the verified work of it in millionths of a TFLOP/s-hour, and how many receipts were accepted."""


def calendar_first(today: date) -> date:
    """The Monday at which the calendar begins that ends with the week of `today`."""
    return today - timedelta(days=today.weekday() + 7 * (WEEKS - 1))


def calendar_level(work: int, most: int) -> int:
    """0 for nothing, else 1 to LEVELS: quarters of the best day."""
    return 0 if work <= 0 or most <= 0 else min(LEVELS, 1 + LEVELS * (work - 1) // most)


def calendar_svg(days: Sequence[WorkedDay], *, today: date) -> str:
    """The year that ends today. Days that are not in `days` are empty; days out of it are left out."""
    first = calendar_first(today)
    done = {day: (work, receipts) for day, work, receipts in days if first <= day <= today}
    most = max((work for work, _ in done.values()), default=0)
    parts = [f'<text x="0" y="{_TOP + row * _CELL + _SIZE - 4}">{name}</text>' for row, name in ((0, "Mon"), (2, "Wed"), (4, "Fri"))]
    for place in range((today - first).days + 1):
        day, week = first + timedelta(days=place), place // 7
        x, y = _LEFT + week * _CELL, _TOP + place % 7 * _CELL
        if day.day <= 7 and place % 7 == 0 and week < WEEKS - 1:
            parts.append(f'<text x="{x}" y="12">{day:%b}</text>')
        work, receipts = done.get(day, (0, 0))
        words = f"{day:%Y-%m-%d}: {receipts} accepted, {work / 1e6:.3g} TFLOP-hours" if receipts else f"{day:%Y-%m-%d}: none"
        level = calendar_level(work, most)
        parts.append(f'<rect class="level-{level}" x="{x}" y="{y}" width="{_SIZE}" height="{_SIZE}"><title>{words}</title></rect>')
    width, height = _LEFT + WEEKS * _CELL, _TOP + 7 * _CELL
    return (
        f'<svg class="calendar" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{len(done)} days with accepted work in the year to {today:%Y-%m-%d}">{"".join(parts)}</svg>'
    )
