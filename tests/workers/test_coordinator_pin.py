"""The pinned coordinator key: which orders it opens after successions, and which chains move it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workers.portal_fake import FakePortal
from workers.coordinator_pin import CoordinatorPin
from workers.home import NodeHome
from workers.portal import PortalClient, PortalUnreachableError
from workers.protocol.canonical import canonical_json
from workers.protocol.errors import EnvelopeMalformedError, KeyWrongError
from workers.protocol.keys import PrivateKey, PublicKey


@pytest.fixture
def client(portal: FakePortal, home: NodeHome) -> Iterator[PortalClient]:
    client = PortalClient(portal.origin, home.key())
    yield client
    client.close()


@pytest.fixture
def pin(home: NodeHome) -> CoordinatorPin:
    return CoordinatorPin(home, home.identity())


def test_journaled_orders_of_earlier_keys_still_open(
    portal: FakePortal, home: NodeHome, client: PortalClient, pin: CoordinatorPin, key: PublicKey
) -> None:
    old = portal.envelope(portal.order_make(key))
    journaled = pin.order_open(old, portal=client).envelope
    portal.key_succeed()
    new = portal.envelope(portal.order_make(key))
    assert pin.order_open(new, portal=client).order.node_key_id == key.key_id
    with pytest.raises(KeyWrongError):
        pin.order_open(old, portal=client)
    restarted = CoordinatorPin(home, home.identity())
    for one in (pin, restarted):
        assert one.key == portal.key.public
        assert one.order_reopen(journaled).envelope == journaled
        assert one.order_reopen(canonical_json(new)).order.node_key_id == key.key_id
    stranger = PrivateKey.generate()
    portal.key = stranger
    with pytest.raises(KeyWrongError):
        restarted.order_reopen(canonical_json(portal.envelope(portal.order_make(key))))


def test_portal_that_is_away_moves_nothing(
    portal: FakePortal, home: NodeHome, client: PortalClient, pin: CoordinatorPin, key: PublicKey
) -> None:
    portal.key_succeed()
    envelope = portal.envelope(portal.order_make(key))
    portal.outage = True
    with pytest.raises(PortalUnreachableError):
        pin.order_open(envelope, portal=client)
    portal.outage = False
    assert pin.order_open(envelope, portal=client).order.node_key_id == key.key_id


def test_chains_that_lead_elsewhere_move_nothing(
    portal: FakePortal, home: NodeHome, client: PortalClient, pin: CoordinatorPin, key: PublicKey
) -> None:
    pinned = home.identity().coordinator_key
    portal.key_succeed()
    envelope = portal.envelope(portal.order_make(key))
    true_key, true_chain = portal.key, portal.predecessors
    stranger = PrivateKey.generate()
    foreign = FakePortal()
    foreign.key_succeed()
    foreign.stop()
    for chain, present in (
        ((), true_key),
        (true_chain, stranger),
        (foreign.predecessors, foreign.key),
        ((*true_chain, *true_chain), true_key),
        ((true_chain[0].model_copy(update={"public_key": stranger.public.to_base64()}),), true_key),
        ((true_chain[0].model_copy(update={"succession": {"payload": 1}}),), true_key),
    ):
        portal.predecessors, portal.key = chain, present
        with pytest.raises(KeyWrongError):
            pin.order_open(envelope, portal=client)
    assert home.identity().coordinator_key == pinned


def test_what_is_no_envelope_asks_nobody(portal: FakePortal, client: PortalClient, pin: CoordinatorPin) -> None:
    portal.outage = True
    with pytest.raises(EnvelopeMalformedError):
        pin.order_open({"payload": 1}, portal=client)
    assert portal.outages_served == 0


def test_a_moved_pin_changes_nothing_else_of_the_home(portal: FakePortal, home: NodeHome, client: PortalClient, key: PublicKey) -> None:
    portal.key_succeed()
    before = home.identity()
    CoordinatorPin(home, before).order_open(portal.envelope(portal.order_make(key)), portal=client)
    changed = {"coordinator_key", "coordinator_predecessors"}
    assert home.identity().model_dump(exclude=changed) == before.model_dump(exclude=changed)
