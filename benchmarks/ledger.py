"""The ledger alone: what movements cost, how fast the log takes items in, how long an item waits for a checkpoint. Durable commits."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices


def ledger_figures(folder: Path) -> list[Figure]:
    """On PostgreSQL and Redis of its own, in `folder` (short: sockets are in it)."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "coordinator.key"
    key.write_bytes(base64.b64encode(bytes(range(32))))
    services = EmbeddedServices.in_temporary_root(durable=True)
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
            "NEXA_LOG_ROOT": str(folder / "log-tiles"),
        }
        command = [sys.executable, "-m", "benchmarks.ledger_load"]
        run = subprocess.run(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True, timeout=300)
    finally:
        services.stop()
    found = json.loads(run.stdout)
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
