"""Real worker processes and a portal of another age: they are told to be upgraded, or not understood, and lose nothing by either."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.test_cli import invoke
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.protocol.keys import PublicKey
from workers.protocol.messages.exchange import Command, CommandKind
from workers.protocol.version import SOFTWARE_VERSION
from workers.status import NodeStatus, status_read

pytestmark = pytest.mark.acceptance
WANTED = "other host software is wanted: "
GAP = f"The portal speaks protocol 7, 8; this host, software {SOFTWARE_VERSION}, speaks 1. Upgrade this software: docs/host.md, Upgrading."


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


def shown(home: NodeHome) -> str:
    return " ".join(invoke(home, "status").output.split())


def status_wait(home: NodeHome, is_so: Callable[[NodeStatus], bool]) -> NodeStatus:
    limit = time.monotonic() + 30
    while not is_so(found := status_read(home)):
        assert time.monotonic() < limit, found
        time.sleep(0.05)
    return found


def test_worker_that_is_advised_to_be_upgraded_says_so_once_and_works_on(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey
) -> None:
    advice = Command(kind=CommandKind.UPGRADE, reason="Have 2.0, this is 1.0.")
    portal.commands = [advice]
    order = portal.order_add(portal.order_make(key, "write a 1"))
    assert portal.receipt_of(order).outcome == "completed"
    seen = len(portal.exchanges)
    portal.wait_for(lambda: len(portal.exchanges) > seen + 2, "more exchanges")
    assert {exchange.software_version for exchange in portal.exchanges} == {SOFTWARE_VERSION}
    assert worker.log.read_text().count(f"{WANTED}Have 2.0, this is 1.0.") == 1
    assert "upgrade Have 2.0, this is 1.0." in shown(home)
    with portal.changing():
        portal.commands = []
    status_wait(home, lambda found: found.upgrade == "")
    assert "upgrade" not in shown(home)


def test_worker_that_is_not_understood_says_what_to_do_and_works_on_when_it_is(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey
) -> None:
    portal.wait_for(lambda: portal.exchanges, "the first exchange")
    with portal.changing():
        portal.protocol_versions = (7, 8)
        portal.stopping = True  # ends the long poll
    portal.wait_for(lambda: len(portal.unspoken) >= 3, "three tries", seconds=60)
    text = worker.log.read_text()
    assert text.count(f"{WANTED}{GAP}") == 1
    assert "protocol_unsupported" not in text, "a line for each try would bury it"
    assert worker.process.poll() is None
    assert "portal speaks another protocol (asked" in shown(home)
    assert f"upgrade {GAP}" in shown(home)
    with portal.changing():
        portal.protocol_versions, portal.stopping = (1, 7, 8), False
    order = portal.order_add(portal.order_make(key, "write a 1"))
    assert portal.receipt_of(order, seconds=60).outcome == "completed"
    assert status_wait(home, lambda found: found.upgrade == "").portal.speaks_ours


def test_what_was_computed_is_kept_for_software_that_is_understood(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 2 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    portal.protocol_versions = (7,)
    portal.wait_for(lambda: "/api/v1/receipts" in portal.unspoken, "a receipt that is refused", seconds=60)
    assert order.replica_id not in portal.receipts
    worker.end()
    assert "1 result" in shown(home)
    portal.protocol_versions = (1,)
    second = Worker(home, tmp_path / "second.log")
    try:
        assert portal.receipt_of(order, seconds=60).outcome == "completed"
    finally:
        second.end()


def test_without_a_worker_the_portal_is_asked_what_it_speaks(portal: FakePortal, home: NodeHome) -> None:
    portal.protocol_versions = (7, 8)
    assert f"upgrade {GAP}" in shown(home)
    assert not status_read(home).portal.speaks_ours
    portal.protocol_versions = (0,)
    assert "install the version that its operator names" in shown(home)
