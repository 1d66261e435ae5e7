"""A real worker process that is told to pause, resume and drain by `nexa` from another one, against a portal over HTTP."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.workers.portal_fake import FakePortal
from tests.workers.test_worker_process import Worker
from workers.cli_manners import drain, pause, resume
from workers.home import NodeHome
from workers.hours import DAYS
from workers.intent import Intent, IntentKind
from workers.intent_file import intent_read, intent_write
from workers.journal import Fact, Journal
from workers.protocol.keys import PublicKey

pytestmark = pytest.mark.acceptance


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


def tell(home: NodeHome, command: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, env={"NEXA_HOME": str(home.folder)})
    assert result.exit_code == 0, result.output
    return result.output


def first_exchange(portal: FakePortal, home: NodeHome, log: Path) -> None:
    worker = Worker(home, log)
    try:
        portal.wait_for(lambda: portal.exchanges, "the first exchange")
    finally:
        worker.end()


def asking(portal: FakePortal) -> bool:
    return bool(portal.exchanges) and portal.exchanges[-1].free.slots > 0 and portal.exchanges[-1].wait_seconds > 1


def held(portal: FakePortal, code: str) -> bool:
    hold = portal.exchanges[-1].hold if portal.exchanges else None
    return hold is not None and hold.code == code and portal.exchanges[-1].free.slots == 0


def test_pause_breaks_off_the_long_poll_and_resume_asks_again(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    portal.wait_for(lambda: asking(portal), "a long poll")
    began = time.monotonic()
    assert "no more is taken" in tell(home, pause)
    portal.wait_for(lambda: held(portal, "paused_by_owner"), "the hold", seconds=5)
    assert time.monotonic() - began < 2  # of a long poll of 25 s; half a second between looks
    order = portal.order_add(portal.order_make(key, "write a 1"))
    seen = len(portal.exchanges)
    portal.wait_for(lambda: len(portal.exchanges) > seen, "another exchange")
    assert order in portal.orders
    tell(home, resume)
    assert portal.receipt_of(order, seconds=5).outcome == "completed"


def test_what_runs_when_the_pause_comes_is_finished(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 2 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    tell(home, pause)
    portal.wait_for(lambda: held(portal, "paused_by_owner") and portal.exchanges[-1].leases, "the run's renewal under the hold")
    assert portal.receipt_of(order).outcome == "completed"


def test_pause_outlives_the_worker(portal: FakePortal, home: NodeHome, tmp_path: Path) -> None:
    assert "No worker runs" in tell(home, pause, "--for", "2h")
    until = intent_read(home.folder).until
    assert until is not None
    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(hours=2)
    first_exchange(portal, home, tmp_path / "first.log")
    portal.exchanges.clear()
    first_exchange(portal, home, tmp_path / "second.log")
    assert all(exchange.hold is not None and exchange.free.slots == 0 for exchange in portal.exchanges)


def test_pause_for_a_while_ends_by_itself(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    portal.wait_for(lambda: asking(portal), "a long poll")
    intent_write(home.folder, Intent(kind=IntentKind.PAUSE, until=datetime.now(UTC) + timedelta(seconds=2)))
    portal.wait_for(lambda: held(portal, "paused_by_owner"), "the hold")
    order = portal.order_add(portal.order_make(key, "write a 1"))
    assert portal.receipt_of(order).outcome == "completed"


def test_drain_finishes_reports_stops_and_stays_stopped(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 2 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    assert "finishes what it has" in tell(home, drain)
    portal.wait_for(lambda: held(portal, "draining"), "the hold")
    waiting = portal.order_add(portal.order_make(key, "write a 1"))
    assert worker.wait() == 0
    assert portal.receipts[order.replica_id][1].outcome == "completed"
    assert waiting in portal.orders
    again = Worker(home, tmp_path / "again.log")
    assert again.wait() == 78
    assert "nexa resume" in (tmp_path / "again.log").read_text()
    assert "as soon as a worker runs" in tell(home, resume)
    third = Worker(home, tmp_path / "third.log")
    try:
        assert portal.receipt_of(waiting).outcome == "completed"
    finally:
        third.end()


def test_idle_worker_that_is_drained_is_gone_at_once(portal: FakePortal, worker: Worker, home: NodeHome) -> None:
    portal.wait_for(lambda: asking(portal), "a long poll")
    tell(home, drain)
    assert worker.wait(10) == 0
    journal = Journal.read_only(home.journal_path)
    assert journal.fact(Fact.STATE) == "stopped"
    journal.close()


def test_drain_waits_for_a_portal_that_is_away(portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 1 ; write a 1"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    portal.outage = True
    tell(home, drain)
    served = portal.outages_served
    portal.wait_for(lambda: portal.outages_served >= served + 5, "refused calls")
    assert worker.process.poll() is None
    portal.outage = False
    assert worker.wait() == 0
    assert portal.receipts[order.replica_id][1].outcome == "completed"


def test_drained_worker_that_was_killed_still_reports_what_it_owes(
    portal: FakePortal, worker: Worker, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_add(portal.order_make(key, "sleep 2"))
    portal.wait_for(lambda: any(exchange.leases for exchange in portal.exchanges), "the run to be reported")
    tell(home, drain)
    worker.signal(signal.SIGKILL)
    worker.wait()
    again = Worker(home, tmp_path / "again.log")
    try:
        assert again.wait() == 0
    finally:
        again.end()
    assert order.replica_id in portal.receipts


def test_hours_of_node_toml_keep_work_away(portal: FakePortal, home: NodeHome, tmp_path: Path) -> None:
    other_day = DAYS[(datetime.now().astimezone().weekday() + 3) % 7]
    with home.settings_path.open("a") as file:
        file.write(f'[manners]\nhours = ["{other_day}"]\n')
    worker = Worker(home, tmp_path / "worker.log")
    try:
        portal.wait_for(lambda: held(portal, "outside_hours"), "the hold")
    finally:
        worker.end()
    assert all(exchange.free.slots == 0 for exchange in portal.exchanges)


def test_intent_that_cannot_be_read_takes_no_work(portal: FakePortal, worker: Worker, home: NodeHome) -> None:
    portal.wait_for(lambda: asking(portal), "a long poll")
    (home.folder / "intent.json").write_text("{")
    portal.wait_for(lambda: held(portal, "paused_by_owner"), "the hold")
    assert "intent.json" in (portal.exchanges[-1].hold or pytest.fail("no hold")).message
    tell(home, resume)
    portal.wait_for(lambda: asking(portal), "a long poll")
