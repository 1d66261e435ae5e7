"""Real worker processes whose key the coordinator takes no more, or that have the key of another: they stop, and say why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from tests.workers.test_cli import invoke
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.journal import Journal
from workers.keystore.interface import KeyPlace
from workers.keystore.plain_file import PlainFileStorage
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.receipt import FailureCode

pytestmark = pytest.mark.acceptance


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


@pytest.mark.parametrize(("status", "code"), [(403, "node_revoked"), (403, "key_retired"), (409, "session_superseded")])
def test_idle_worker_that_is_sent_away_ends_and_says_why(
    portal: FakePortal, worker: Worker, home: NodeHome, status: int, code: str
) -> None:
    portal.wait_for(lambda: portal.exchanges, "the first exchange")
    with portal.changing():
        portal.refusals["/api/v1/exchange"] = RefusedError(status, code, "For a reason of its own.")
        portal.stopping = True  # ends the long poll
    assert worker.wait() == 78
    assert f"this worker stops for good: {code}: For a reason of its own." in worker.log.read_text()
    shown = " ".join(invoke(home, "status").output.split())
    assert f"the portal sent the last one away: {code}: For a reason of its own." in shown


def test_worker_that_is_sent_away_stops_its_run_and_reports_it(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 60"))
    portal.wait_for(lambda: any(lease.stage is Stage.RUNNING for exchange in portal.exchanges for lease in exchange.leases), "the run")
    portal.refusals["/api/v1/exchange"] = RefusedError(409, "session_superseded", "Another worker.")
    receipt = portal.receipt_of(order)
    assert receipt.failure is not None
    assert receipt.failure.code is FailureCode.HOST_STOPPED
    assert worker.wait() == 78


def test_revoked_worker_does_not_wait_for_reports_that_nobody_takes(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey
) -> None:
    portal.order_add(portal.order_make(key, "sleep 60"))
    portal.wait_for(lambda: any(lease.stage is Stage.RUNNING for exchange in portal.exchanges for lease in exchange.leases), "the run")
    revoked = RefusedError(403, "node_revoked", "This node was revoked.")
    for path in ("/api/v1/exchange", "/api/v1/receipts", "/api/v1/uploads"):
        portal.refusals[path] = revoked
    assert worker.wait() == 78
    journal = Journal.read_only(home.journal_path)
    assert [row.ending for row in journal.leases_ended()] == ["refused: node_revoked"]
    journal.close()


def test_status_forgets_the_dismissal_of_an_earlier_worker(portal: FakePortal, worker: Worker, home: NodeHome, tmp_path: Path) -> None:
    portal.refusals["/api/v1/exchange"] = RefusedError(403, "node_revoked")
    assert worker.wait() == 78
    del portal.refusals["/api/v1/exchange"]
    second = Worker(home, tmp_path / "second.log")
    try:
        portal.wait_for(lambda: portal.exchanges, "an exchange")
        assert "sent the last one away" not in invoke(home, "status").output
    finally:
        second.end()
    assert "sent the last one away" not in invoke(home, "status").output


def test_worker_on_a_copied_home_does_not_start(portal: FakePortal, home: NodeHome, tmp_path: Path) -> None:
    copy = NodeHome(tmp_path / "copy")
    shutil.copytree(home.folder, copy.folder)
    worker = Worker(copy, tmp_path / "worker.log")
    assert worker.wait() == 78
    assert "this node home was copied or moved" in worker.log.read_text()
    assert not portal.exchanges
    copy.lock().release()


def test_worker_beside_an_unfinished_rotation_does_not_start(portal: FakePortal, home: NodeHome, tmp_path: Path) -> None:
    PlainFileStorage(home.folder).write(KeyPlace.PENDING, PrivateKey.generate())
    worker = Worker(home, tmp_path / "worker.log")
    assert worker.wait() == 78
    assert "Run `nexa key rotate` again" in worker.log.read_text()
    home.lock().release()


def test_running_worker_follows_the_coordinator_to_its_new_key(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    first = portal.key
    before = portal.order_add(portal.order_make(key, "write a 1"))
    assert portal.receipt_of(before).outcome == "completed"
    portal.key_succeed()
    portal.key_succeed()
    after = portal.order_add(portal.order_make(key, "write a 2"))
    assert portal.receipt_of(after).outcome == "completed"
    identity = home.identity()
    assert identity.coordinator_key == portal.key.public.to_base64()
    assert identity.coordinator_predecessors[0] == first.public.to_base64()
    assert len(identity.coordinator_predecessors) == 2
    # A key that was left behind opens nothing new.
    portal.key, present = first, portal.key
    portal.order_add(portal.order_make(key, "write a 3"))
    portal.wait_for(lambda: "what is no order of our coordinator, dropped" in worker.log.read_text(), "the order to be dropped")
    portal.key = present
    last = portal.order_add(portal.order_make(key, "write a 4"))
    assert portal.receipt_of(last).outcome == "completed"


def test_order_of_a_stranger_is_dropped_and_pins_nothing(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    pinned = home.identity().coordinator_key
    portal.key, true_key = PrivateKey.generate(), portal.key
    portal.order_add(portal.order_make(key, "write a 1"))
    portal.wait_for(lambda: "what is no order of our coordinator, dropped: key_wrong" in worker.log.read_text(), "the order to be dropped")
    portal.key = true_key
    order = portal.order_add(portal.order_make(key, "write a 2"))
    assert portal.receipt_of(order).outcome == "completed"
    assert len(portal.receipts) == 1
    assert home.identity().coordinator_key == pinned
