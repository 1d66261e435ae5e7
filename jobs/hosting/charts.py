"""What a node's charts show: series over a span, with gaps where nothing was heard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from nodes.models import Node
from nodes.selectors import samples_of

Series = list[tuple[datetime, float | None]]


@dataclass(frozen=True)
class Span:
    """A stretch of time up to now, in steps of which each is one point."""

    key: str
    words: str
    length: timedelta
    step_minutes: int


@dataclass(frozen=True)
class Chart:
    """A series with the words around it. `top`: where its axis ends."""

    caption: str
    name: str
    unit: str
    meaning: str
    top: float
    points: Series


SPANS: Final = {
    "hour": Span("hour", "last hour", timedelta(hours=1), 1),
    "day": Span("day", "last day", timedelta(days=1), 10),
}
_LOAD: Final = (
    ("cpu_percent", "Processor, all cores", "processor"),
    ("memory_percent", "Memory", "memory"),
    ("gpu_percent", "GPUs, mean", "GPUs"),
)
_HEAT: Final = (("cpu_celsius", "Processor, hottest sensor", "temperature"), ("gpu_celsius", "GPU, hottest", "GPU temperature"))


def charts_of(*, node: Node, span: Span, now: datetime) -> list[Chart]:
    """A chart for everything that the machine told in the span; [] if it told nothing. One statement."""
    rows = samples_of(node=node, since=now - span.length, step_minutes=span.step_minutes)
    charts = [Chart(caption, name, "%", "running", 100.0, _series(rows, key, span, now)) for key, caption, name in _LOAD]
    charts += [Chart(caption, name, "°C", "waiting", 100.0, _series(rows, key, span, now)) for key, caption, name in _HEAT]
    return [chart for chart in charts if any(value is not None for _, value in chart.points)]


def _series(rows: list[dict[str, Any]], key: str, span: Span, now: datetime) -> Series:
    """From the span's begin to its end. Two missing steps are a gap; a single one is a heartbeat that came a little late."""
    points: Series = [(now - span.length, None)]
    for row in rows:
        at, last = row["at"], points[-1][0]
        if points[-1][1] is not None and at - last > timedelta(minutes=3 * span.step_minutes):
            points.append((last + timedelta(minutes=span.step_minutes), None))
        points.append((at, row[key]))
    return [*points, (now, None)]
