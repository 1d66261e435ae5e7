"""`make bench`: measures, prints tables, and writes the same as JSON. Ends with 1 where a figure is not within what was asked."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

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
    """The sections, as they are measured, and what they share."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.sections: dict[str, dict[str, Any]] = {}
        self.figures: list[Figure] = []

    @cached_property
    def engine(self) -> EngineHandle:
        """Of this machine, started if it does not run."""
        return engine_ensure(report=self.console.print)

    @cached_property
    def image_id(self) -> str:
        """Of an image that starts fast."""
        client = self.engine.client()
        try:
            return tiny_image_ensure(client, report=self.console.print)
        finally:
            client.close()

    def section(self, title: str, figures: Sequence[Figure]) -> None:
        """Shows what was found, and how busy the machine was just then."""
        load, runnable = Path("/proc/loadavg").read_text().split()[0::3][:2]
        self.sections[title] = {"load": float(load), "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures]}
        self.figures += figures
        figures_print(f"{title}  (load {load}, {runnable} running)", figures, console=self.console)


def _archives(bench: Bench) -> None:
    bench.section("Archives", archive_figures(bench.folder / "archives"))


def _audit(bench: Bench) -> None:
    bench.section("Audit of the ledger's log", audit_figures(bench.folder / "audit"))


def _ledger(bench: Bench) -> None:
    bench.section("The ledger", ledger_figures(bench.folder / "ledger"))


def _wall(bench: Bench) -> None:
    bench.section("The wall, 100,000 contributors", wall_figures(bench.folder / "wall"))


def _pages(bench: Bench) -> None:
    bench.section("Pages at 1,000,000 jobs of one owner", page_figures())


def _intake(bench: Bench) -> None:
    bench.section("Intake", intake_measure(bench.folder / "intake"))


def _engine(bench: Bench) -> None:
    bench.section("The engine", engine_figures(bench.engine, bench.folder / "engine", bench.image_id))


def _host(bench: Bench) -> None:
    """As an operator would run it: the portal's own settings, and a database that is on disk before it says so."""
    folder = bench.folder / "stack"
    folder.mkdir()
    with stack_running(folder, bench.engine, owners=(OWNER,), settings={}, node_settings="[lend]\nslots = 2\n", durable=True) as running:
        host = f"{OWNER}-host"
        fabric = Fabric(running, host, bench.image_id)
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


def _lifecycle(bench: Bench) -> None:
    folder = bench.folder / "lifecycle"
    folder.mkdir()
    with coordinator_running(folder, images={BASE_IMAGE: bench.image_id}, owners=OWNERS, settings={}, durable=True) as running:
        bench.section("The life cycle of empty jobs", lifecycle_figures(running))


PARTS: Final[Mapping[str, Callable[[Bench], None]]] = {
    "Archives": _archives,
    "Audit": _audit,
    "Ledger": _ledger,
    "Wall": _wall,
    "Pages": _pages,
    "Intake": _intake,
    "Engine": _engine,
    "Host and claims": _host,
    "Life cycle": _lifecycle,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, default=CHECKOUT / "var" / "bench.json", help="where the figures go")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nexapod-bench-") as folder:
        found = Bench(Path(folder), console)
        for part in options.only:
            PARTS[part](found)
        engine = str(found.engine)
    document = {"at": datetime.now(UTC).isoformat(), "machine": _machine(), "engine": engine, "sections": found.sections}
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
