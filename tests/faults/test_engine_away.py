"""The container engine is stopped and started again under a running job: the job completes, is paid once, nothing is left behind."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from client.submission import descriptor_load
from devstack.engine import EngineHandle
from devstack.images import base_image_ensure, workload_image_ensure
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import RunningStack, stack_running
from tests.acceptance.traces import wait_for
from tests.faults.conftest import HOST, LIMIT_SECONDS, Books, bulk_submit, expect_nothing_left
from tests.faults.own_engine import OwnEngine, own_engine

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]

TINY_IMAGE = str(descriptor_load(TINY / "job.json")["docker_image"])


@contextmanager
def _stack_on_own_engine(folder: Path, engine: EngineHandle, *, live_restore: bool) -> Iterator[tuple[RunningStack, OwnEngine]]:
    with contextlib.closing(engine.client()) as client:
        base = base_image_ensure(client, report=print)
        workload_image_ensure(client, context=TINY, tag=TINY_IMAGE, base=base, report=print, engine_url=engine.base_url)
    with own_engine(base, TINY_IMAGE, base_url=engine.base_url, live_restore=live_restore) as (own, handle):
        (folder / "stack").mkdir()
        with stack_running(folder / "stack", handle, TINY, owners=("ada",)) as running:
            yield running, own


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory, engine: EngineHandle) -> Iterator[tuple[RunningStack, OwnEngine]]:
    """A stack on an engine that takes its containers down with it."""
    with _stack_on_own_engine(tmp_path_factory.mktemp("stopping"), engine, live_restore=False) as found:
        yield found


def _running_wait(running: RunningStack, own: OwnEngine, job_id: str) -> str:
    """The id of the job's container, which runs."""
    running.replicas_wait(job_id, "running", count=1, limit_seconds=LIMIT_SECONDS)
    with contextlib.closing(docker.APIClient(base_url=own.url, version="auto")) as client:
        wait_for(lambda: bool(client.containers()), limit_seconds=LIMIT_SECONDS, what=lambda: "a running container")
        return str(client.containers()[0]["Id"])


def _hold_wait(running: RunningStack) -> None:
    """Returns when the portal knows that this host's engine is away."""
    wait_for(lambda: "engine_away" in str(running.contributors["ada"].nodes()[0]), limit_seconds=LIMIT_SECONDS, what=lambda: "the hold")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_engine_that_stops_loses_no_job(stopping: tuple[RunningStack, OwnEngine], engine: EngineHandle, signum: signal.Signals) -> None:
    """Once as by its own shutdown, which asks containers to end, and once as by a crash."""
    running, own = stopping
    books = Books(running)
    job_id = bulk_submit(running, seconds=5)
    _running_wait(running, own, job_id)

    own.stop(signum)
    _hold_wait(running)
    own.start()

    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
    books.expect_paid_once(job_id)
    expect_nothing_left(running, engine, engine_url=own.url)


def test_container_that_outlives_its_engine_is_followed(tmp_path: Path, engine: EngineHandle) -> None:
    with _stack_on_own_engine(tmp_path, engine, live_restore=True) as (running, own):
        books = Books(running)
        job_id = bulk_submit(running, seconds=8)
        container_id = _running_wait(running, own, job_id)

        own.stop()
        own.start()

        assert _running_wait(running, own, job_id) == container_id
        running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
        books.expect_paid_once(job_id)
        expect_nothing_left(running, engine, engine_url=own.url)


def test_worker_that_starts_before_its_engine_waits_for_it(stopping: tuple[RunningStack, OwnEngine], engine: EngineHandle) -> None:
    running, own = stopping
    running.process_kill(HOST)
    own.stop()
    running.process_restart(HOST)
    job_id = bulk_submit(running)
    _hold_wait(running)

    own.start()

    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
