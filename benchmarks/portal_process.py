"""A load that runs inside a process of the portal, on a PostgreSQL and Redis of its own, and prints JSON."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices


def portal_process_run(module: str, folder: Path, *, durable: bool, seconds_max: int) -> Any:
    """What `python -m module` prints. Its key and its log are in `folder`. `durable`: commits are on disk before the database says so."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "coordinator.key"
    key.write_bytes(base64.b64encode(bytes(range(32))))
    services = EmbeddedServices.in_temporary_root(durable=durable)
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
            "NEXA_COORDINATOR_KEY_FILE": str(key),
            "NEXA_LOG_ROOT": str(folder / "log-tiles"),
        }
        command = [sys.executable, "-m", module]
        run = subprocess.run(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True, timeout=seconds_max)
    finally:
        services.stop()
    return json.loads(run.stdout)
