"""The chord on real Celery workers, PostgreSQL and Redis: a job is concluded, also when Redis loses everything in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import redis
from django.conf import settings
from django.db import connections

from devstack.stack import APPLICATION_ROLE, VERIFY_ROLE
from jobs.models import Job, VerificationBatch
from jobs.states import JobState
from ledger.checkpoints import checkpoint_latest
from ledger.models import Entry, LogItem
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

BROKER_DATABASE = 7
"""A Redis database of these tests' own, so that they may flush it."""
TWO = {"method": "exact", "copies": 2, "quorum": 2}
ROOT = Path(__file__).resolve().parents[3]


class Workers:
    """Real `celery worker` processes on one database, under the roles of production, ended by their own ids."""

    def __init__(self, database: str, folder: Path) -> None:
        parameters = connections["default"].get_connection_params()
        place = {name: str(parameters[name]) for name in ("host", "port") if parameters.get(name)}
        base = settings.CELERY_BROKER_URL.partition("?")[0]
        self._database = f"postgresql:///{database}?{urlencode(place)}"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "NEXA_ROLE": "server",
            "NEXA_BROKER_URL": f"{base}?virtual_host={BROKER_DATABASE}",
            "NEXA_LOG_ROOT": str(settings.NEXA_LOG_ROOT),
            "NEXA_VERIFY_CLAIM_SECONDS": "4",
            "NEXA_DISPATCH_SECONDS": "0.2",
            "NEXA_LOG_LEVEL": "WARNING",
        }

    def start(self, queues: str, *options: str) -> None:
        """One process. That of `verify` is a user that may write evidence only, and others may not write evidence."""
        user = VERIFY_ROLE if queues == "verify" else APPLICATION_ROLE
        number = len(self._processes)
        command = [sys.executable, "-m", "celery", "-A", "nexaportal", "worker", "-Q", queues, "-n", f"test{number}@localhost"]
        command += ["--concurrency", "1", "--without-mingle", "--without-gossip", *options]
        with (self._folder / f"worker-{number}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**self._environment, "NEXA_DATABASE_URL": f"{self._database}&user={user}"},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                logs = "\n".join(path.read_text(errors="replace")[-4000:] for path in sorted(self._folder.glob("worker-*.log")))
                pytest.fail(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.1)


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """The Redis database of these workers' broker, empty before and after."""
    path = settings.CELERY_BROKER_URL.partition("://")[2].partition("?")[0]
    with redis.Redis(unix_socket_path=path, db=BROKER_DATABASE) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def workers(own_database: str, broker: redis.Redis, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(own_database, tmp_path)
    yield made
    made.stop()


def job_reported() -> Job:
    job = job_make(verification=TWO)
    for _ in range(2):
        replica_report(job)
    return job


def all_completed() -> bool:
    return set(Job.objects.values_list("state", flat=True)) == {JobState.COMPLETED}


def paid() -> int:
    return Entry.objects.filter(kind="payment").count()


def test_jobs_are_verified_paid_and_logged_by_workers(workers: Workers, tmp_path: Path) -> None:
    for _ in range(3):
        job_reported()
    workers.start("control,conclude", "--beat", "--schedule", str(tmp_path / "beat"))
    workers.start("verify")
    workers.wait(all_completed, "all jobs completed")
    assert paid() == 6
    workers.wait(lambda: not VerificationBatch.objects.exists(), "the batch is forgotten")
    workers.wait(lambda: getattr(checkpoint_latest(), "size", 0) == LogItem.objects.count(), "everything is under a checkpoint")


def test_redis_flushed_between_header_and_body_delays_and_loses_nothing(workers: Workers, broker: redis.Redis, tmp_path: Path) -> None:
    for _ in range(2):
        job_reported()
    workers.start("control", "--beat", "--schedule", str(tmp_path / "beat"))
    workers.wait(lambda: broker.llen("verify") > 0, "a chord was sent")
    broker.flushdb()
    assert paid() == 0
    workers.start("verify")
    workers.start("conclude")
    workers.wait(all_completed, "all jobs completed after their claims expired")
    assert paid() == 4
