"""Pages of the portal over very many rows: what the server takes for one, by Django's test client, in a process of the portal."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from typing import Final

from benchmarks.figures import Figure
from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices

LIMIT_MS: Final = 150
LOAD_SECONDS_MAX: Final = 1500


def page_figures() -> list[Figure]:
    """On PostgreSQL and Redis of its own, made for this and thrown away."""
    services = EmbeddedServices.in_temporary_root(durable=False)
    services.start()
    try:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
            "NEXA_ROLE": "server",
            "NEXA_SECRET_KEY": secrets.token_urlsafe(32),
            "NEXA_ORIGIN": "http://testserver",
            "NEXA_DATABASE_URL": services.postgres_dsn,
            "NEXA_DATABASE_POOL": "0",
            "NEXA_REDIS_URL": services.redis_url,
            "NEXA_BROKER_URL": services.redis.celery_url(),
        }
        command = [sys.executable, "-m", "benchmarks.pages_load"]
        run = subprocess.run(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True, timeout=LOAD_SECONDS_MAX)
    finally:
        services.stop()
    return [
        Figure(
            f"jobs list, {name}",
            page["p95_ms"],
            "ms",
            LIMIT_MS,
            f"p95 of {page['times']}, p50 {page['p50_ms']:.0f} ms; {page['rows']} rows",
        )
        for name, page in json.loads(run.stdout).items()
    ]
