"""A real Celery worker process against a portal over HTTP: a contributor's machine, without Django and without a container engine."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.home import NodeHome
from workers.journal import Fact, Journal, JournalError
from workers.protocol.compute_log import log_check
from workers.protocol.keys import PublicKey
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.receipt import FailureCode

ROOT = Path(__file__).parents[2]
CELERY = ROOT / ".venv-host" / "bin" / "celery"

pytestmark = pytest.mark.acceptance


class Worker:
    """One worker process on one home."""

    def __init__(self, home: NodeHome, log: Path, *arguments: str, app: str = "tests.workers.worker_app") -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEXA_", "DJANGO_"))}
        command = [str(CELERY)] if CELERY.exists() else [sys.executable, "-m", "celery"]
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*command, "-A", app, "worker", "-l", "INFO", *(arguments or ("-Q", "cpu"))],
                cwd=ROOT,
                env=environment | {"NEXA_HOME": str(home.folder)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


def test_order_runs_and_its_receipt_log_and_archive_arrive(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "progress 0.5 ; sleep 2.5 ; write result.txt forty-two"))
    receipt = portal.receipt_of(order)
    assert receipt.outcome == "completed"
    statement, _ = portal.receipts[order.replica_id]
    assert [subject.name for subject in statement.subjects] == ["log", "archive", "manifest"]
    lines = portal.blobs[receipt.log.digest].splitlines(keepends=True)
    log_check(lines, order_digest=receipt.order_digest, head=receipt.log.head, lines_expected=receipt.log.lines)
    assert receipt.archive is not None
    assert b"forty-two" in portal.blobs[receipt.archive.digest]
    shown = [lease for exchange in portal.exchanges for lease in exchange.leases]
    assert any(lease.stage is Stage.RUNNING and lease.progress == 0.5 and lease.message == "annealing" for lease in shown)


def test_slots_taken_are_not_asked_for_again(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    orders = [portal.order_add(portal.order_make(key, "sleep 1")) for _ in range(4)]
    for order in orders:
        assert portal.receipt_of(order).outcome == "completed"
    assert max(len(exchange.leases) for exchange in portal.exchanges) == 2
    assert all(exchange.free.slots + len(exchange.leases) <= 2 for exchange in portal.exchanges)


def test_lost_answer_loses_no_order(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    portal.answers_to_lose = 1
    order = portal.order_add(portal.order_make(key, "write a 1"))
    assert portal.receipt_of(order).outcome == "completed"
    assert len(portal.given) < len(portal.exchanges)  # one id was used twice


def test_portal_in_trouble_while_running_changes_nothing_for_the_run(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 1 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    portal.outage = True
    portal.wait_for(lambda: portal.outages_served >= 3, "three refused calls")
    portal.outage = False
    assert portal.receipt_of(order).outcome == "completed"
    assert portal.receipt_posts == 1


def test_sigterm_lets_the_run_end_and_takes_no_more_work(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    running = portal.order_add(portal.order_make(key, "sleep 1.5 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    worker.signal(signal.SIGTERM)
    portal.wait_for(lambda: portal.exchanges[-1].free.slots == 0, "an exchange that asks for nothing")
    waiting = portal.order_add(portal.order_make(key, "write a 1"))
    assert worker.wait() == 0
    assert portal.receipts[running.replica_id][1].outcome == "completed"
    assert waiting in portal.orders


def test_idle_worker_stops_at_once(portal: FakePortal, worker: Worker) -> None:
    portal.wait_for(lambda: portal.exchanges, "the first exchange")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - began < 5  # the long poll is 25 s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_cancels_and_reports_host_stopped(portal: FakePortal, worker: Worker, key: PublicKey, number: signal.Signals) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 60"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    worker.signal(number)
    portal.wait_for(lambda: portal.exchanges[-1].free.slots == 0, "an exchange that asks for nothing")
    worker.signal(number)
    assert worker.wait() == 0
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert failure.code is FailureCode.HOST_STOPPED


def test_cancel_command_stops_the_run(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 60"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    portal.cancel(order)
    failure = portal.receipt_of(order, seconds=5).failure
    assert failure is not None
    assert failure.code is FailureCode.CANCELLED


def test_killed_while_running_the_next_worker_runs_what_is_gone_again(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 4 ; write a 1"))
    portal.wait_for(lambda: any(lease.stage is Stage.RUNNING for exchange in portal.exchanges for lease in exchange.leases), "the run")
    worker.signal(signal.SIGKILL)
    worker.wait()
    second = Worker(home, tmp_path / "second.log")
    try:
        receipt = portal.receipt_of(order)
    finally:
        second.end()
    assert receipt.outcome == "completed"
    lines = portal.blobs[receipt.log.digest].splitlines(keepends=True)
    log_check(lines, order_digest=receipt.order_digest, head=receipt.log.head, lines_expected=receipt.log.lines)
    assert b'"resumed"' in b"".join(lines)


def test_killed_before_its_receipt_was_answered_the_next_worker_hands_it_in(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    portal.refusals["/api/v1/receipts"] = RefusedError(503, "unavailable")
    order = portal.order_add(portal.order_make(key, "write a 1"))

    def finished() -> bool:
        try:
            journal = Journal.read_only(home.journal_path)
        except JournalError:
            return False  # the worker has not made it yet, or not its tables
        try:
            return any(row.receipt is not None for row in journal.leases_open())
        except JournalError:
            return False
        finally:
            journal.close()

    portal.wait_for(finished, "a signed receipt in the journal")
    worker.signal(signal.SIGKILL)
    worker.wait()
    del portal.refusals["/api/v1/receipts"]
    second = Worker(home, tmp_path / "second.log")
    try:
        assert portal.receipt_of(order).outcome == "completed"
    finally:
        second.end()
    assert portal.receipt_posts == 1


def test_stopping_while_the_portal_is_away_keeps_the_receipt_for_the_next_start(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 0.5 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    portal.outage = True
    worker.signal(signal.SIGTERM)
    # Two pending signals of one kind are one: the second is sent when the first has been heard.
    portal.wait_for(lambda: "Warm shutdown" in worker.log.read_text(), "the worker to hear the first signal")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    journal = Journal.read_only(home.journal_path)
    assert [row.lease_id for row in journal.leases_open()] == [order.lease_id]
    assert journal.fact(Fact.STATE) == "stopped"
    journal.close()
    portal.outage = False
    second = Worker(home, tmp_path / "second.log")
    try:
        assert portal.receipt_of(order).lease_id == order.lease_id
    finally:
        second.end()


def test_second_worker_on_the_same_home_is_refused(portal: FakePortal, worker: Worker, home: NodeHome, tmp_path: Path) -> None:
    portal.wait_for(lambda: portal.exchanges, "the first exchange")
    second = Worker(home, tmp_path / "second.log")
    assert second.wait() == 75
    assert f"Another worker (process {worker.process.pid})" in second.log.read_text()


def test_queue_that_the_node_may_not_serve_is_named(home: NodeHome, tmp_path: Path) -> None:
    worker = Worker(home, tmp_path / "worker.log", "-Q", "cpu,gpu-tier2")
    assert worker.wait() == 78
    assert "may not serve 'gpu-tier2'; it may serve cpu" in worker.log.read_text()


def test_worker_without_a_home_says_how_to_join(tmp_path: Path) -> None:
    worker = Worker(NodeHome(tmp_path / "nothing"), tmp_path / "worker.log")
    assert worker.wait() == 78
    assert "nexa join" in worker.log.read_text()


def test_home_that_cannot_be_locked_ends_the_worker_so_that_it_is_tried_again(home: NodeHome, tmp_path: Path) -> None:
    """Whatever is wrong at the start: a worker without a host would sit there for ever."""
    (home.folder / "lock").mkdir()
    worker = Worker(home, tmp_path / "worker.log")
    assert worker.wait() == 75
    assert "IsADirectoryError" in worker.log.read_text()


def test_journal_that_cannot_be_opened_ends_the_worker_so_that_it_is_tried_again(home: NodeHome, tmp_path: Path) -> None:
    home.journal_path.mkdir()
    worker = Worker(home, tmp_path / "worker.log")
    assert worker.wait() == 75
    assert "can't be used as a journal" in worker.log.read_text()


def test_journal_of_other_software_ends_the_worker_for_good(home: NodeHome, tmp_path: Path) -> None:
    connection = sqlite3.connect(home.journal_path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    worker = Worker(home, tmp_path / "worker.log")
    assert worker.wait() == 78
    assert "has version 99" in worker.log.read_text()


def test_worker_with_a_damaged_journal_begins_another_one(portal: FakePortal, home: NodeHome, tmp_path: Path) -> None:
    home.journal_path.write_bytes(b"no database at all" * 100)
    worker = Worker(home, tmp_path / "worker.log")
    try:
        portal.wait_for(lambda: portal.exchanges, "the first exchange")
    finally:
        worker.end()
    assert "journal.damaged-" in worker.log.read_text()


def test_nexa_worker_without_a_home_ends_as_the_worker_itself_does(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEXA_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "client", "worker"],
        cwd=ROOT,
        env=environment | {"NEXA_HOME": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "nexa join" in done.stderr) == (78, True)
