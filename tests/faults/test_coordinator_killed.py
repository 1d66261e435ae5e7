"""The coordinator's processes die, Redis forgets, PostgreSQL restarts, at each moment between receipt and payment: every job is concluded
once, everybody is paid once, and nothing is left waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from devstack.stack import CHECKOUT
from tests.acceptance.traces import wait_for
from tests.faults.coordinator import LIMIT_SECONDS, Coordinator, coordinator_started
from tests.faults.server_moments import BODY, HEADER, RECEIPT
from workers.portal import PortalUnreachableError

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

WORKERS = {**dict.fromkeys(HEADER, "verify"), **dict.fromkeys(BODY, "conclude")}
SINGLE = {"method": "numeric", "copies": 1, "quorum": 1}


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with coordinator_started(tmp_path_factory.mktemp("stack")) as started:
        yield started
        started.expect_books_right()
        started.batches_forgotten_wait()
        started.audits_pass()


@pytest.mark.parametrize("moment", WORKERS)
def test_worker_killed_at_this_moment_and_started_again(coordinator: Coordinator, moment: str) -> None:
    coordinator.moment_set(moment, signal.SIGKILL)
    job_ids = coordinator.jobs_report()
    coordinator.death_wait(WORKERS[moment])

    coordinator.running.process_restart(WORKERS[moment])

    coordinator.jobs_wait(*job_ids)
    coordinator.expect_books_right()


def test_pool_process_killed_alone_and_replaced_by_its_worker(coordinator: Coordinator) -> None:
    coordinator.moment_set("between two pieces of evidence", signal.SIGKILL, group=False)
    job_ids = coordinator.jobs_report()
    coordinator.passed_wait()

    coordinator.jobs_wait(*job_ids)

    assert coordinator.running.process("verify").is_alive
    coordinator.expect_books_right()


@pytest.mark.parametrize("loss", ["flushed", "restarted"])
@pytest.mark.parametrize("moment", WORKERS)
def test_redis_loses_everything_at_this_moment(coordinator: Coordinator, moment: str, loss: Literal["flushed", "restarted"]) -> None:
    process = WORKERS[moment]
    coordinator.moment_set(moment, signal.SIGSTOP)
    job_ids = coordinator.jobs_report()
    coordinator.stopped_wait(process)

    match loss:
        case "flushed":
            coordinator.running.services.redis_flush()
        case "restarted":
            coordinator.running.services.redis_restart()
    coordinator.signal(process, signal.SIGCONT)

    coordinator.jobs_wait(*job_ids)
    coordinator.expect_books_right()


@pytest.mark.parametrize("mode", ["fast", "kill"])
@pytest.mark.parametrize("moment", ["between two pieces of evidence", "postings written, not committed"])
def test_postgres_restarted_while_a_batch_is_in_flight(coordinator: Coordinator, moment: str, mode: Literal["fast", "kill"]) -> None:
    process = WORKERS[moment]
    coordinator.moment_set(moment, signal.SIGSTOP)
    job_ids = coordinator.jobs_report()
    coordinator.stopped_wait(process)

    coordinator.running.services.postgres_restart(mode)
    coordinator.signal(process, signal.SIGCONT)

    coordinator.running.portal_wait(limit_seconds=LIMIT_SECONDS)
    coordinator.jobs_wait(*job_ids)
    coordinator.expect_books_right()


@pytest.mark.parametrize("moment", RECEIPT)
def test_web_killed_during_a_receipt_that_is_sent_again(coordinator: Coordinator, moment: str) -> None:
    job_id = coordinator.job_submit(verification=SINGLE)
    host = coordinator.hosts["ada"]
    (opened,) = host.orders()
    delivery = host.result(opened)
    host.blobs_upload(delivery)
    coordinator.moment_set(moment, signal.SIGKILL)
    with pytest.raises(PortalUnreachableError):
        host.client.receipt_submit(delivery.receipt)
    coordinator.death_wait("web")

    coordinator.running.process_restart("web")
    coordinator.running.portal_wait(limit_seconds=LIMIT_SECONDS)

    assert host.client.receipt_submit(delivery.receipt).status == "recorded"
    coordinator.jobs_wait(job_id)
    coordinator.expect_books_right()


def test_receipt_sent_five_times_at_once_counts_once(coordinator: Coordinator) -> None:
    job_id = coordinator.job_submit(verification=SINGLE)
    host = coordinator.hosts["ada"]
    (opened,) = host.orders()
    delivery = host.result(opened)
    host.blobs_upload(delivery)
    clients = [host.client.clone() for _ in range(5)]

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda client: client.receipt_submit(delivery.receipt), clients))

    for client in clients:
        client.close()
    assert len({answer.model_dump_json() for answer in answers}) == 1
    coordinator.jobs_wait(job_id)
    coordinator.expect_books_right()


def test_late_receipt_votes_before_the_conclusion_and_earns_nothing_after(coordinator: Coordinator) -> None:
    job_id = coordinator.job_submit()
    hosts = coordinator.hosts
    taken = {owner: hosts[owner].orders()[0] for owner in ("ada", "emmy")}
    for opened in taken.values():
        _lease_expire(coordinator, job_id, str(opened.order.lease_id))
    coordinator.results_deliver("lise", count=1)

    assert hosts["ada"].deliver(hosts["ada"].result(taken["ada"])).status == "recorded"
    coordinator.jobs_wait(job_id)
    assert hosts["emmy"].client.receipt_submit(hosts["emmy"].result(taken["emmy"]).receipt).status == "late"

    states = sorted(replica["state"] for replica in coordinator.running.researcher.job_replicas(job_id))
    assert states == ["accepted", "accepted", "cancelled", "expired"]
    coordinator.expect_books_right()


def test_dispatcher_twice_at_once_gives_a_job_to_one_batch(coordinator: Coordinator) -> None:
    """That of control, which goes on meanwhile, and another, as hard as it can."""
    script = (
        "import django, time; django.setup()\n"
        "from jobs.tasks import verification_dispatch\n"
        "print('up', flush=True); input()\n"
        "end = time.monotonic() + 1\n"
        "while time.monotonic() < end: verification_dispatch()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=coordinator.environment("control"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        job_ids = coordinator.jobs_report(count=3)
        _, errors = other.communicate("\n", timeout=LIMIT_SECONDS)
    finally:
        other.kill()
        other.communicate()
    assert other.returncode == 0, errors
    coordinator.jobs_wait(*job_ids)
    coordinator.expect_books_right()


def _lease_expire(coordinator: Coordinator, job_id: str, lease_id: str) -> None:
    with coordinator.database() as database:
        database.execute("UPDATE jobs_replica SET lease_expires_at = now() - interval '1 hour' WHERE lease_id = %s", [lease_id])

    def has_expired() -> bool:
        with coordinator.database() as database:
            return database.execute("SELECT state FROM jobs_replica WHERE lease_id = %s", [lease_id]).fetchall() == [("expired",)]

    wait_for(has_expired, limit_seconds=LIMIT_SECONDS, what=lambda: f"the lease to expire\n{coordinator.running.evidence(job_id)}")
