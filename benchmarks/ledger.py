"""The ledger alone: what movements cost, how fast the log takes items in, how long an item waits for a checkpoint. Durable commits."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.portal_process import portal_process_run


def ledger_figures(folder: Path) -> list[Figure]:
    """On services of its own; the key is in `folder`."""
    found = portal_process_run("benchmarks.ledger_load", folder, durable=True, seconds_max=300)
    python, postgres = found["python_seconds_per_job"] * 1e3, found["postgres_seconds_per_job"] * 1e3
    return [
        Figure(
            "three movements of a job, 1,000 jobs at a time", python + postgres, "cpu-ms", None, f"Python {python:.3f}, PG {postgres:.3f}"
        ),
        Figure(
            "into the log, files included", 1e6 / found["integrated_per_second"], "us an item", 100, "at most 100: at least 10,000 a second"
        ),
        Figure(
            "from commit to checkpoint at 10,000 a second, p99", found["lag_seconds_p99"], "s", 2, f"p50 {found['lag_seconds_p50']:.2f} s"
        ),
    ]
