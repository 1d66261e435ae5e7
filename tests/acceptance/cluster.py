"""A cluster of PostgreSQL whose database is migrated, made once in a run of the suite: each stack begins with a copy of it.

The folder is tests/conftest.py's. Where there is none, as under the benchmarks, a stack makes and migrates its own.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devstack.stack import CHECKOUT
from nexaportal.embedded import EmbeddedServices

FOLDER: Final = "NEXA_TEST_CLUSTER"
"""The environment variable that names it."""


@contextmanager
def services_running(*, durable: bool) -> Iterator[EmbeddedServices]:
    """Services on a root of their own, with the tables there if this is a run of the suite."""
    services = EmbeddedServices.in_temporary_root(durable=durable)
    try:
        if folder := os.environ.get(FOLDER):
            subprocess.run(["cp", "--archive", str(_made(Path(folder))), str(services.root / "postgresql")], check=True)
        with services:
            yield services
    finally:
        services.stop()


def _made(folder: Path) -> Path:
    """The cluster at rest, made by who comes first."""
    made = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            making = folder / "making"
            with EmbeddedServices(making, durable=False) as services:
                for command in ("migrate", "database_roles"):
                    _manage(command, services, folder)
            making.rename(made)
    return made / "postgresql"


def _manage(command: str, services: EmbeddedServices, folder: Path) -> None:
    settings = {
        "NEXA_ROLE": "server",
        "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
        "NEXA_SECRET_KEY": "of a cluster that serves nobody",
        "NEXA_DATABASE_URL": services.postgres_dsn,
        "NEXA_REDIS_URL": services.redis_url,
        "NEXA_BROKER_URL": services.redis.celery_url(),
        "NEXA_STATIC_ROOT": str(folder),
    }
    argv = [sys.executable, "manage.py", command, "--verbosity=0"]
    done = subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"manage.py {command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
