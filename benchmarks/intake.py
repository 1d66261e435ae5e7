"""What comes in by the thousand: processor time of this process for jobs of an array and for receipts of a batch; PostgreSQL's is apart.

`python -m benchmarks.intake`: with a PostgreSQL and a Redis of its own, in the process itself, through the whole Django stack. `--profile`
prints where the time goes. `make bench` runs it as a process of its own, because Django can be set up once only.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import json
import os
import pstats
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.db import connections
from rich.console import Console

from benchmarks.figures import Figure, figures_print
from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices


@contextmanager
def django_ready(services: EmbeddedServices, folder: Path) -> Iterator[None]:
    """Django set up as the tests have it, with its tables made."""
    key_file = folder / "coordinator.key"
    key_file.write_bytes(base64.b64encode(bytes(range(32))))
    key_file.chmod(0o600)
    os.environ.update(
        {
            "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
            "NEXA_ROLE": "server",
            "NEXA_SECRET_KEY": secrets.token_urlsafe(32),
            "NEXA_ORIGIN": "http://testserver",
            "NEXA_DATABASE_URL": services.postgres_dsn,
            "NEXA_REDIS_URL": services.redis_url,
            "NEXA_BROKER_URL": services.redis.celery_url(),
            "NEXA_COORDINATOR_KEY_FILE": str(key_file),
            "NEXA_BLOB_ROOT": str(folder / "blobs"),
            "NEXA_STATIC_ROOT": str(folder),
        }
    )
    django.setup()
    call_command("migrate", verbosity=0)
    try:
        yield
    finally:
        connections.close_all()


def intake_measure(folder: Path) -> list[Figure]:
    """The figures, found by a process of its own that keeps them in `folder` meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "figures.json"
    # What it prints is shown again by the caller; its status says whether the figures hold, which the caller looks at too.
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.intake", "--json", found], cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=False, timeout=300
    )
    if not found.exists():
        raise RuntimeError(f"benchmarks.intake ended with {run.returncode} before it had measured anything; what it said is above")
    return [Figure(**each) for each in json.loads(found.read_text())]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a figure is above what it may be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print where the time goes; the figures are larger then")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(argv)
    profile = cProfile.Profile(time.process_time) if options.profile else None

    def measured(function: Callable[[], Any]) -> float:
        began = time.process_time()
        if profile:
            profile.runcall(function)
        else:
            function()
        return time.process_time() - began

    services = EmbeddedServices.in_temporary_root(durable=True)
    services.start()
    try:
        with tempfile.TemporaryDirectory(prefix="nexapod-intake-") as folder, django_ready(services, Path(folder)):
            from benchmarks.intake_work import intake_figures  # noqa: PLC0415  its imports need Django set up

            figures = intake_figures(measured)
    finally:
        services.stop()
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures]))
    figures_print("Intake", figures, console=Console(width=None if sys.stdout.isatty() else 140))
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
