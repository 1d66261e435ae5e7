"""A portal that runs: uvicorn in a process of its own, on a database of its own, under the application's role."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import requests
from django.conf import settings
from django.db import connection, connections
from django.test import override_settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from devstack.stack import APPLICATION_ROLE
from jobs.models import Job
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from nexaportal.embedded import die_with_parent
from people.models import Scope, User
from people.services import token_mint
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make
from tests.factories.receipts import replica_report

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0


class LivePortal:
    """The running portal. `database()` is the only way in which tests reach its rows."""

    def __init__(self, blocker: Any) -> None:
        self._blocker = blocker
        self._source = str(settings.DATABASES["default"]["NAME"])
        self._name = f"portal_{uuid.uuid4().hex[:12]}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, log: Path) -> None:
        connections.close_all()
        with self._admin() as admin:
            # Threads of tests that are over may still hold a session, and a database with sessions is no template.
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._source])
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self._name), sql.Identifier(self._source)))
        self.web_start(log)

    def web_start(self, log: Path, *options: str) -> None:
        """Starts its web process, on the database that is there; `options` are uvicorn's. `start` has done it once."""
        environment = {
            **os.environ,
            "NEXA_ORIGIN": self.origin,
            "NEXA_DATABASE_URL": make_conninfo(os.environ["NEXA_DATABASE_URL"], dbname=self._name, user=APPLICATION_ROLE),
        }
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "nexaportal.asgi:application",
            "--port",
            str(self.port),
            "--lifespan",
            "off",
            "--timeout-graceful-shutdown",
            "2",
            *options,
        ]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(15),  # noqa: PLW1509 -- nothing between fork and exec takes a lock
            )
        limit = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < limit, log.read_text()[-2000:]
            time.sleep(0.1)

    def web_stop(self) -> None:
        """Ends its web process; the database stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def stop(self) -> None:
        self.web_stop()
        with self._admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self._name)))

    @contextmanager
    def database(self) -> Iterator[None]:
        """Django's code in this block works on the portal's database, with real commits, and as this portal."""
        connections.close_all()
        settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = self._name
        try:
            with self._blocker.unblock(), override_settings(NEXA_ORIGIN=self.origin):
                yield
        finally:
            connections.close_all()
            settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = self._source

    def researcher(self, *scopes: Scope) -> tuple[User, str]:
        """A new approved researcher with credits, and an API token; all scopes unless some are named."""
        with self.database():
            user = funded_researcher_make(f"r-{uuid.uuid4().hex[:10]}")
            return user, token_mint(owner=user, name="test", scopes=scopes or list(Scope))[1]

    def job_complete(self, job_id: str) -> None:
        """Runs a submitted job on as many simulated hosts as it has copies, verifies, pays, publishes a checkpoint."""
        with self.database():
            job = Job.objects.get(pk=job_id)
            for _ in range(job.copies):
                replica_report(job)
            job_check(job_id=job.pk)
            job_settle(job_id=job.pk)
            checkpoint_publish()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.origin}/status", timeout=5).ok
        except requests.RequestException:
            return False

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(make_conninfo(os.environ["NEXA_DATABASE_URL"], dbname="postgres"), autocommit=True)
