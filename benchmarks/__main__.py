"""`make bench`: measures, prints tables, and writes the same as JSON. Ends with 1 where a figure is not within what was asked."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.archives import archive_figures
from benchmarks.audit import audit_figures
from benchmarks.claims import claim_figures
from benchmarks.engine import engine_figures
from benchmarks.fabric import Fabric
from benchmarks.figures import Figure, figures_print
from benchmarks.intake import intake_measure
from benchmarks.ledger import ledger_figures
from benchmarks.lifecycle import OWNERS, lifecycle_figures
from benchmarks.pages import page_figures
from benchmarks.wall import wall_figures
from devstack.engine import EngineHandle, engine_ensure
from devstack.images import tiny_image_ensure
from devstack.stack import CHECKOUT
from tests.acceptance.running_stack import BASE_IMAGE, coordinator_running, stack_running

OWNER = "ada"


class Bench:
    """The sections, as they are measured."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.sections: dict[str, dict[str, Any]] = {}
        self.figures: list[Figure] = []

    def section(self, title: str, figures: Sequence[Figure]) -> None:
        """Shows what was found, and how busy the machine was just then."""
        load, runnable = Path("/proc/loadavg").read_text().split()[0::3][:2]
        self.sections[title] = {"load": float(load), "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures]}
        self.figures += figures
        figures_print(f"{title}  (load {load}, {runnable} running)", figures, console=self._console)


def bench(engine: EngineHandle, folder: Path, console: Console) -> Bench:
    """Measures everything, one after the other."""
    bench = Bench(console)
    client = engine.client()
    try:
        image_id = tiny_image_ensure(client, report=console.print)
    finally:
        client.close()
    bench.section("Archives", archive_figures(folder / "archives"))
    bench.section("Audit of the ledger's log", audit_figures(folder / "audit"))
    bench.section("The ledger", ledger_figures(folder / "ledger"))
    bench.section("The wall, 100,000 contributors", wall_figures(folder / "wall"))
    bench.section("Pages at 1,000,000 jobs of one owner", page_figures())
    bench.section("Intake", intake_measure(folder / "intake"))
    bench.section("The engine", engine_figures(engine, folder / "engine", image_id))
    stack_folder = folder / "stack"
    stack_folder.mkdir()
    # As an operator would run it: the portal's own settings, and a database that is on disk before it says so.
    with stack_running(stack_folder, engine, owners=(OWNER,), settings={}, node_settings="[lend]\nslots = 2\n", durable=True) as running:
        host = f"{OWNER}-host"
        fabric = Fabric(running, host, image_id)
        try:
            fabric.warm_up()
            bench.section("Submit to order", fabric.orders())
            added, stages = fabric.overhead()
            bench.section("A container of two seconds", added)
            bench.section("Where its time goes, p50", stages)
            bench.section("Memory of a worker", fabric.memory())
            job_id = fabric.job_completed()
        finally:
            fabric.close()
        running.process_kill(host)
        bench.section("Claims", claim_figures(running, host, job_id))
    lifecycle_folder = folder / "lifecycle"
    lifecycle_folder.mkdir()
    with coordinator_running(lifecycle_folder, images={BASE_IMAGE: image_id}, owners=OWNERS, settings={}, durable=True) as running:
        bench.section("The life cycle of empty jobs", lifecycle_figures(running))
    return bench


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, default=CHECKOUT / "var" / "bench.json", help="where the figures go")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    began = time.monotonic()
    engine = engine_ensure(report=print)
    with tempfile.TemporaryDirectory(prefix="nexapod-bench-") as folder:
        found = bench(engine, Path(folder), console)
    document = {"at": datetime.now(UTC).isoformat(), "machine": _machine(), "engine": str(engine), "sections": found.sections}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    missed = [figure.name for figure in found.figures if not figure.holds]
    console.print(f"{time.monotonic() - began:.0f} s; {options.json}" + (f"; not as asked: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def _machine() -> dict[str, Any]:
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
