"""The lease client: what comes while it makes up its mind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.workers.portal_fake import FakePortal
from workers.caps import Caps, NodeSettings
from workers.coordinator_pin import CoordinatorPin
from workers.home import NodeHome
from workers.journal import Journal
from workers.lease_client import DrainLimits, LeaseClient
from workers.portal import PortalClient, PortalUnreachableError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.exchange import MachineLoad, NoWork, Stage
from workers.resources import Resources


class Client:
    """A lease client that runs nothing. `act` is called, once, while a request is made that asks for work already."""

    def __init__(self, home: NodeHome, portal: FakePortal) -> None:
        self.hold: NoWork | None = None
        self.acts: list[str] = []
        self.journal = Journal.open(home.journal_path)
        self.lease_client = LeaseClient(
            pin=CoordinatorPin(home, home.identity()),
            queues=home.identity().queues,
            journal=self.journal,
            portal=PortalClient(portal.origin, home.key()),
            resources=Resources(Caps.of(NodeSettings.read(home.settings_path), home.profile()), disk_free=lambda: 100 * 2**30),
            limits=DrainLimits(drain_seconds=5, report_seconds=5),
            order_take=lambda _: None,
            order_give_back=lambda _: None,
            hold=lambda: self.hold,
            machine=self._act,
        )

    def _act(self) -> MachineLoad | None:
        """The machine is looked at last."""
        act = self.acts.pop() if self.acts else ""
        if act == "drain":
            self.lease_client.drain()
        elif act == "withdraw":
            self.hold = NoWork(code="hold_hours", message="Not at this hour.")
            self.lease_client.withdraw()
        return None

    def close(self) -> None:
        self.lease_client.close()
        self.journal.close()


@pytest.fixture
def client(home: NodeHome, portal: FakePortal) -> Iterator[Client]:
    client = Client(home, portal)
    yield client
    client.close()


@pytest.mark.parametrize("act", ["drain", "withdraw"])
def test_whoever_comes_while_a_request_for_work_is_made_ends_it(client: Client, portal: FakePortal, act: str) -> None:
    """Else it would wait at the portal for as long as a request for work does, and might bring some."""
    client.acts.append(act)
    client.lease_client.start()
    portal.wait_for(lambda: portal.exchanges, "an exchange")
    assert [message.free.slots for message in portal.exchanges] == [0]


def test_a_portal_that_wants_to_be_left_alone_is_but_for_leases_in_hand(client: Client) -> None:
    error = PortalUnreachableError("busy", retry_after_seconds=120)
    assert client.lease_client._failed_seconds(error) > 120
    client.lease_client.runs.add(uuid4(), deadline_at=client.lease_client._portal.clock.now())
    assert client.lease_client._failed_seconds(error) == 60 / 2.5


def test_journal_that_cannot_be_written_asks_for_nothing_until_it_can(client: Client, portal: FakePortal, key: PublicKey) -> None:
    def read_only(on: bool) -> None:
        with client.journal._mutex:
            client.journal._connection.execute(f"PRAGMA query_only = {on}")

    client.lease_client.start()
    portal.wait_for(lambda: any(message.wait_seconds for message in portal.exchanges), "a long poll")
    read_only(True)
    order = portal.order_add(portal.order_make(key, "write a 1"))
    portal.wait_for(lambda: order.lease_id in portal.leased, "the order to be taken")
    seen = len(portal.exchanges)
    portal.wait_for(lambda: len(portal.exchanges) >= seen + 3, "exchanges meanwhile")
    assert {message.free.slots for message in portal.exchanges[seen:]} == {0}
    read_only(False)
    portal.wait_for(lambda: client.journal.lease(order.lease_id), "the order in the journal")


def test_progress_that_is_printed_again_and_again_hastens_no_exchange_and_piles_nothing_up(client: Client, portal: FakePortal) -> None:
    runs = client.lease_client.runs
    run = runs.add(uuid4(), deadline_at=client.lease_client._portal.clock.now() + timedelta(hours=1))
    run.stage_enter(Stage.RUNNING)
    client.hold = NoWork(code="hold_hours", message="Not at this hour.")
    portal.lease_seconds = 60
    client.lease_client.start()
    portal.wait_for(lambda: portal.exchanges, "the first exchange")
    seen, end = len(portal.exchanges), time.monotonic() + 3
    while time.monotonic() < end:
        run.show(0.5, "step")
        runs.changed()
        time.sleep(0.01)
    assert len(portal.exchanges) - seen <= 2
    began = time.monotonic()
    run.stage_enter(Stage.UPLOADING)
    runs.changed()
    portal.wait_for(lambda: portal.exchanges[-1].leases[0].stage is Stage.UPLOADING, "the next stage to be told")
    assert time.monotonic() - began < 1.5


def test_wakes_do_not_pile_up_while_exchanges_follow_at_once(client: Client) -> None:
    for _ in range(100):
        client.lease_client.wake()
    client.lease_client._pause(0)
    assert client.lease_client._wakes.empty()
