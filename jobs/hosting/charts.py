"""What a node's charts show: series over a span, with gaps where nothing was heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from nodes.models import Node, NodeSample
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
    samples = samples_of(node=node, since=now - span.length)
    charts = [Chart(caption, name, "%", "running", 100.0, series_of(samples, key, span, now)) for key, caption, name in _LOAD]
    charts += [Chart(caption, name, "°C", "waiting", 100.0, series_of(samples, key, span, now)) for key, caption, name in _HEAT]
    return [chart for chart in charts if any(value is not None for _, value in chart.points)]


def series_of(samples: Sequence[NodeSample], key: str, span: Span, now: datetime) -> Series:
    """From the span's begin to its end, the mean of each step. More than two missing steps are a gap: a heartbeat may be late."""
    step = timedelta(minutes=span.step_minutes)
    steps: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        value = getattr(sample, key)
        if value is not None:
            steps[int(sample.minute_at.timestamp() // step.total_seconds())].append(value)
    points: Series = [(now - span.length, None)]
    for number, values in sorted(steps.items()):
        at = datetime.fromtimestamp(number * step.total_seconds(), UTC)
        last, told = points[-1]
        if told is not None and at - last > 3 * step:
            points.append((last + step, None))
        points.append((max(at, points[0][0]), sum(values) / len(values)))
    return [*points, (now, None)]
