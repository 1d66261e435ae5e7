"""The wall with 100,000 contributors: what its pages take on the server, and what keeping its sums costs."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices

PAGE_MS_MAX: Final = 150


def wall_figures(folder: Path) -> list[Figure]:
    """On PostgreSQL and Redis of its own; the key is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "coordinator.key"
    key.write_bytes(base64.b64encode(bytes(range(32))))
    services = EmbeddedServices.in_temporary_root()
    services.start()
    try:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
            "NEXA_ROLE": "server",
            "NEXA_SECRET_KEY": secrets.token_urlsafe(32),
            "NEXA_DATABASE_URL": services.postgres_dsn,
            "NEXA_DATABASE_POOL": "0",
            "NEXA_REDIS_URL": services.redis_url,
            "NEXA_BROKER_URL": services.redis.celery_url(),
            "NEXA_COORDINATOR_KEY_FILE": str(key),
        }
        command = [sys.executable, "-m", "benchmarks.wall_load"]
        run = subprocess.run(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True, timeout=600)
    finally:
        services.stop()
    found = json.loads(run.stdout)
    return [
        *(Figure(f"{name}, p50", page["p50"], "ms", PAGE_MS_MAX, _cpu_words(page)) for name, page in found["pages"].items()),
        Figure("a settled slice's work written down, 200 receipts of as many people", found["record"]["p50"], "ms"),
        Figure("sums made again for 5,000 workdays of 2,500 people", found["sum_ms"], "ms"),
    ]


def _cpu_words(page: dict[str, float]) -> str:
    """On a machine that others use too, the processor's time says more than the clock's."""
    return f"Python {page['python']:.0f}, PG {page['database']:.0f} cpu-ms; slowest {page['slowest']:.0f} ms"
