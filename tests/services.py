"""A pytest plugin, named in pyproject.toml so that it runs before Django is configured: PostgreSQL and Redis for this run of the tests.

The services stand on a temporary data root and are removed at the end. Under xdist each process has its own, so that a test may flush Redis
or restart PostgreSQL without a word to the others.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from nexaportal.embedded import EmbeddedServices

SERVICES_KEY = pytest.StashKey[EmbeddedServices]()
COORDINATOR_KEY_RAW = bytes(range(32))
"""The coordinator's private key in tests: fixed, so that golden values can name its fingerprint."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background job. Children would inherit it, and tests could interrupt none of them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    stack = contextlib.ExitStack()
    early_config.add_cleanup(stack.close)
    services, _ = stack.enter_context(services_start())
    early_config.stash[SERVICES_KEY] = services


@contextlib.contextmanager
def services_start() -> Iterator[tuple[EmbeddedServices, Path]]:
    """PostgreSQL, Redis and a folder, removed at the end, and the environment that makes Django's settings use them."""
    with contextlib.ExitStack() as stack:
        services = EmbeddedServices.in_temporary_root(durable=False)
        stack.callback(services.stop)
        services.start()
        _autovacuum_stop(services)
        folder = Path(tempfile.mkdtemp(prefix="nexapod-tests-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        key_file = folder / "coordinator.key"
        key_file.write_bytes(base64.b64encode(COORDINATOR_KEY_RAW))
        key_file.chmod(0o600)
        (folder / "static").mkdir()
        os.environ.update(
            {
                "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
                "NEXA_ROLE": "server",
                "NEXA_SECRET_KEY": "tests only",
                "NEXA_ORIGIN": "http://testserver",
                "NEXA_DATABASE_URL": services.postgres_dsn,
                "NEXA_DATABASE_POOL": "0",
                "NEXA_REDIS_URL": services.redis_url,
                "NEXA_BROKER_URL": services.redis.celery_url(),
                "NEXA_COORDINATOR_KEY_FILE": str(key_file),
                "NEXA_STATIC_ROOT": str(folder / "static"),
                "NEXA_BLOB_ROOT": str(folder / "blobs"),
                "NEXA_LOG_ROOT": str(folder / "log-tiles"),
                "NEXA_EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend",
                "NEXA_INPUT_HOSTS": "data.example.org",
            }
        )
        yield services, folder


def _autovacuum_stop(services: EmbeddedServices) -> None:
    """Tests roll back, so what it finds of a table is that it is empty: planned by that, a join of a test's many rows takes minutes."""
    with psycopg.connect(services.postgres_dsn, autocommit=True) as database:
        database.execute("ALTER SYSTEM SET autovacuum = off")
        database.execute("SELECT pg_reload_conf()")
