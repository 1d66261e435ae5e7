"""A host's disk is full while outputs, journal and cache are written: the job completes, is paid once, nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from devstack.engine import EngineHandle
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import RunningStack, stack_running
from tests.acceptance.traces import wait_for
from tests.faults.conftest import HOST, LIMIT_SECONDS, OTHER, Books, bulk_submit, expect_nothing_left
from tests.faults.moments import moment_set
from tests.faults.small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, engine: EngineHandle) -> Iterator[tuple[RunningStack, SmallDisk]]:
    """Two hosts, of which HOST has a small disk, and OTHER does not run."""
    folder = tmp_path_factory.mktemp("stack")
    with (
        small_disk(folder / "hosts" / HOST, folder / "disk") as small,
        stack_running(
            folder,
            engine,
            TINY,
            owners=("ada", "emmy"),
            node_settings="[lend]\nslots = 1\n",
            host_app="tests.faults.host_app",
        ) as running,
    ):
        running.process_kill(OTHER)
        yield running, small


def _stopped_at(running: RunningStack, moment: str, **changes: object) -> str:
    """Submits a job and waits until the worker stands still at that moment; the job's id."""
    file = moment_set(running.hosts[HOST].home, moment, signal.SIGSTOP)
    job_id = bulk_submit(running, **changes)  # type: ignore[arg-type]  # whatever the test gives
    worker = psutil.Process(running.process(HOST).pid)
    wait_for(
        lambda: not file.exists() and worker.status() == psutil.STATUS_STOPPED,
        limit_seconds=LIMIT_SECONDS,
        what=lambda: running.evidence(job_id),
    )
    return job_id


def _other_finishes(running: RunningStack, engine: EngineHandle, job_id: str) -> None:
    running.process_restart(OTHER)
    try:
        running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
        expect_nothing_left(running, engine)
    finally:
        running.process_kill(OTHER)


def _fill_until(running: RunningStack, small: SmallDisk, said: str) -> None:
    """Fills the disk, lets a worker that stands still go on, and empties the disk when the worker has said something."""
    log = running.process(HOST).log_path
    seen = log.stat().st_size
    small.fill()
    os.kill(running.process(HOST).pid, signal.SIGCONT)

    def since() -> str:
        return log.read_bytes()[seen:].decode(errors="replace")

    wait_for(lambda: said in since(), limit_seconds=LIMIT_SECONDS, what=since)
    small.empty()


def test_disk_that_is_full_while_outputs_are_written_gives_the_order_back(
    disk: tuple[RunningStack, SmallDisk], engine: EngineHandle
) -> None:
    running, small = disk
    books = Books(running)
    job_id = bulk_submit(running, seconds=6)
    running.replicas_wait(job_id, "running", count=1, limit_seconds=LIMIT_SECONDS)
    # The receipt too needs room: it waits for that.
    _fill_until(running, small, "can't write what it must")
    running.replicas_wait(job_id, "failed", count=1, limit_seconds=LIMIT_SECONDS)
    _other_finishes(running, engine, job_id)
    (failed,) = running.replicas_wait(job_id, "failed", count=1, limit_seconds=LIMIT_SECONDS)
    assert failed["result"]["failure_code"] == "host_disk"
    books.expect_paid_once(job_id)


def test_disk_that_is_full_for_the_journal_as_a_run_ends_costs_nothing(disk: tuple[RunningStack, SmallDisk], engine: EngineHandle) -> None:
    running, small = disk
    books = Books(running)
    job_id = _stopped_at(running, "exited, unknown")
    _fill_until(running, small, "can't write what it must")
    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
    books.expect_paid_once(job_id)
    assert {one["node"] for one in running.researcher.job_replicas(job_id)} == {HOST}
    expect_nothing_left(running, engine)


def test_disk_that_is_full_while_an_input_is_fetched_gives_the_order_back(
    disk: tuple[RunningStack, SmallDisk], engine: EngineHandle
) -> None:
    running, small = disk
    books = Books(running)
    for cached in (running.hosts[HOST].home / "cache").rglob("*"):
        if cached.is_file():
            cached.unlink()
    job_id = _stopped_at(running, "before the fetch")
    _fill_until(running, small, "can't write what it must")
    _other_finishes(running, engine, job_id)
    books.expect_paid_once(job_id)
