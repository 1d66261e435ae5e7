"""`kill -9` of a host's worker at each moment of an order's life, and a restart: the job completes, is paid once, nothing is left."""

from __future__ import annotations

from datetime import UTC, datetime

import docker
import pytest

from devstack.engine import EngineHandle
from tests.acceptance.running_stack import RunningStack
from tests.acceptance.traces import wait_for
from tests.faults.conftest import HOST, LIMIT_SECONDS, ONE_HOST, Books, bulk_submit, expect_nothing_left, portal_heard
from tests.faults.moments import MOMENTS, moment_set

pytestmark = ONE_HOST


def _killed_at(running: RunningStack, moment: str, *, seconds: float = 1.0) -> str:
    """Submits a job and waits for the worker's death at that moment; the job's id."""
    file = moment_set(running.hosts[HOST].home, moment)
    job_id = bulk_submit(running, seconds=seconds)
    wait_for(
        lambda: not file.exists() and not running.process(HOST).is_alive,
        limit_seconds=LIMIT_SECONDS,
        what=lambda: f"death {moment}\n{running.evidence(job_id)}",
    )
    return job_id


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_worker_killed_and_restarted_finishes_its_order(running: RunningStack, engine: EngineHandle, moment: str) -> None:
    books = Books(running)
    job_id = _killed_at(running, moment)

    running.process_restart(HOST)
    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)

    books.expect_paid_once(job_id)
    expect_nothing_left(running, engine)


def test_container_that_outlived_its_worker_was_not_run_twice(running: RunningStack, engine: EngineHandle) -> None:
    books = Books(running)
    job_id = _killed_at(running, "while running", seconds=5)
    client = docker.APIClient(base_url=engine.base_url, version="auto")
    try:
        (container,) = client.containers(filters={"label": f"nexapod.home={running.node_id(HOST)}"})
        killed_at = datetime.now(UTC)
        running.process_restart(HOST)
        wait_for(lambda: portal_heard(running) > killed_at, limit_seconds=LIMIT_SECONDS, what=lambda: "the restart")
        (same,) = client.containers(filters={"label": f"nexapod.home={running.node_id(HOST)}"})
        assert same["Id"] == container["Id"]
    finally:
        client.close()
    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
    books.expect_paid_once(job_id)
    expect_nothing_left(running, engine)


def test_power_cut_takes_worker_and_container_and_the_order_is_run_again(running: RunningStack, engine: EngineHandle) -> None:
    books = Books(running)
    job_id = _killed_at(running, "while running", seconds=3)
    client = docker.APIClient(base_url=engine.base_url, version="auto")
    try:
        (container,) = client.containers(filters={"label": f"nexapod.home={running.node_id(HOST)}"})
        client.kill(container["Id"])
    finally:
        client.close()
    running.process_restart(HOST)
    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
    books.expect_paid_once(job_id)
    expect_nothing_left(running, engine)
