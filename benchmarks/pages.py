"""Pages of the portal over very many rows: what the server takes for one, by Django's test client, in a process of the portal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from benchmarks.portal_process import portal_process_run

LIMIT_MS: Final = 150


def page_figures() -> list[Figure]:
    """On services of its own."""
    with tempfile.TemporaryDirectory(prefix="nexapod-bench-") as folder:
        found = portal_process_run("benchmarks.pages_load", Path(folder), durable=False, seconds_max=1500)
    return [
        Figure(
            f"jobs list, {name}",
            page["p95_ms"],
            "ms",
            LIMIT_MS,
            f"p95 of {page['times']}, p50 {page['p50_ms']:.0f} ms; {page['rows']} rows",
        )
        for name, page in found.items()
    ]
