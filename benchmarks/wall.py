"""The wall with 100,000 contributors: what its pages take on the server, and what keeping its sums costs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from benchmarks.portal_process import portal_process_run

PAGE_MS_MAX: Final = 150


def wall_figures(folder: Path) -> list[Figure]:
    """On services of its own; the key is in `folder`."""
    found = portal_process_run("benchmarks.wall_load", folder, durable=False, seconds_max=1500)
    return [
        *(Figure(f"{name}, p50", page["p50"], "ms", PAGE_MS_MAX, _cpu_words(page)) for name, page in found["pages"].items()),
        Figure("a settled slice's work written down, 200 receipts of as many people", found["record"]["p50"], "ms"),
        Figure("sums made again for 5,000 workdays of 2,500 people", found["sum_ms"], "ms"),
    ]


def _cpu_words(page: dict[str, float]) -> str:
    """On a machine that others use too, the processor's time says more than the clock's."""
    return f"Python {page['python']:.0f}, PG {page['database']:.0f} cpu-ms; slowest {page['slowest']:.0f} ms"
