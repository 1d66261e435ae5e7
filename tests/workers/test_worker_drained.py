"""A real worker process on a node that is drained on its page in the portal: it finishes what it has, takes nothing, and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from tests.workers.test_cli import invoke
from tests.workers.test_worker_manners import asking
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.journal import Fact, Journal
from workers.protocol.keys import PublicKey

pytestmark = pytest.mark.acceptance


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


def leased(portal: FakePortal) -> bool:
    return any(exchange.leases for exchange in portal.exchanges)


def renewals(portal: FakePortal, *, after: int) -> int:
    """How many exchanges since have named a lease and asked for nothing."""
    return sum(bool(exchange.leases) and exchange.free.slots == 0 for exchange in portal.exchanges[after:])


@pytest.fixture
def reports_held(portal: FakePortal) -> Callable[[], None]:
    """Keeps what runs from being over before the test has seen enough: no receipt is taken until this is called."""
    portal.refusals["/api/v1/receipts"] = RefusedError(503, "unavailable")
    return portal.refusals.clear


def test_what_runs_is_renewed_finished_and_reported_and_nothing_else_is_taken(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, reports_held: Callable[[], None]
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 1 ; write a 1"))
    portal.wait_for(lambda: leased(portal), "the lease")
    portal.drain()
    waiting = portal.order_add(portal.order_make(key, "write a 1"))
    told = len(portal.exchanges) + 1  # an answer may be on its way that does not say it yet
    portal.wait_for(lambda: renewals(portal, after=told) >= 3, "renewals that ask for nothing")
    assert worker.process.poll() is None
    assert "draining" in invoke(home, "status").output
    reports_held()
    assert worker.wait() == 0
    assert portal.receipts[order.replica_id][1].outcome == "completed"
    assert waiting in portal.orders
    assert all(exchange.free.slots == 0 for exchange in portal.exchanges[told:])
    text = worker.log.read_text()
    assert text.count("the coordinator drains this node") == 1
    assert "drained by the portal: nothing is left to do or report" in text


def test_idle_worker_ends_and_so_does_the_next_until_the_node_is_resumed(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    portal.wait_for(lambda: asking(portal), "a long poll")
    portal.drain()
    assert worker.wait(10) == 0
    journal = Journal.read_only(home.journal_path)
    assert journal.fact(Fact.STATE) == "stopped"
    journal.close()
    again = Worker(home, tmp_path / "again.log")
    assert again.wait() == 0
    portal.resume()
    third = Worker(home, tmp_path / "third.log")
    try:
        assert portal.receipt_of(portal.order_add(portal.order_make(key, "write a 1"))).outcome == "completed"
    finally:
        third.end()


def test_node_that_is_resumed_in_time_works_on(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, reports_held: Callable[[], None]
) -> None:
    first = portal.order_add(portal.order_make(key, "write a 1"))
    portal.wait_for(lambda: leased(portal), "the lease")
    portal.drain()
    told = len(portal.exchanges) + 1
    portal.wait_for(lambda: renewals(portal, after=told), "a renewal that asks for nothing")
    portal.resume()
    second = portal.order_add(portal.order_make(key, "write a 1"))
    reports_held()
    assert portal.receipt_of(second).outcome == "completed"
    assert portal.receipt_of(first).outcome == "completed"
    assert worker.process.poll() is None
    portal.wait_for(lambda: asking(portal), "a long poll")
    assert "draining" not in invoke(home, "status").output


def test_orders_of_an_answer_that_got_lost_are_not_lost_with_the_drain(portal: FakePortal, worker: Worker, key: PublicKey) -> None:
    """They were claimed for this node before, and come again with the first answer that says that it is drained."""
    portal.wait_for(lambda: asking(portal), "a long poll")
    portal.answers_to_lose = 1
    order = portal.order_add(portal.order_make(key, "write a 1"))
    portal.wait_for(lambda: not portal.answers_to_lose, "the answer to be lost")
    portal.drain()
    assert worker.wait() == 0
    assert portal.receipts[order.replica_id][1].outcome == "completed"
