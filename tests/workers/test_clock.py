"""The portal's time on a machine whose clock is off."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.workers.portal_fake import FakePortal
from workers.clock import PortalClock
from workers.home import NodeHome
from workers.portal import PortalClient
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.machine import Tier
from workers.resources import NOTHING_FREE

LOCAL = 1_800_000_000.0


@pytest.mark.parametrize("off_seconds", [-3600, -30, 30, 3600])
def test_clock_that_is_off_is_corrected(off_seconds: int) -> None:
    clock = PortalClock(lambda: LOCAL, lambda: 0.0)
    clock.learn(datetime.fromtimestamp(LOCAL + off_seconds, UTC))
    assert clock.time() == LOCAL + off_seconds
    assert clock.shift(datetime.fromtimestamp(LOCAL, UTC)) == clock.now()


def test_small_difference_changes_nothing_and_a_clock_that_was_set_is_right_again() -> None:
    clock = PortalClock(lambda: LOCAL, lambda: 0.0)
    clock.learn(datetime.fromtimestamp(LOCAL + 3, UTC))
    assert clock.offset_seconds == 0
    clock.learn(datetime.fromtimestamp(LOCAL + 60, UTC))
    clock.learn(datetime.fromtimestamp(LOCAL, UTC))
    assert clock.offset_seconds == 0


@pytest.mark.parametrize("step_seconds", [-86_400.0 * 3, -3600.0, 3600.0, 86_400.0 * 3])
@pytest.mark.parametrize("off_seconds", [0.0, 3600.0])
def test_a_machine_whose_clock_is_set_goes_on_by_the_portals_time(step_seconds: float, off_seconds: float) -> None:
    """Set right or wrong, between two answers: nothing that runs is past its deadline for that."""
    local, passed = [LOCAL], [7.0]
    clock = PortalClock(lambda: local[0], lambda: passed[0])
    clock.learn(datetime.fromtimestamp(LOCAL + off_seconds, UTC))
    local[0] += step_seconds + 30
    passed[0] += 30
    assert clock.time() == LOCAL + off_seconds + 30
    clock.learn(datetime.fromtimestamp(LOCAL + off_seconds + 31, UTC))
    assert abs(clock.time() - (LOCAL + off_seconds + 31)) <= 1


def test_time_since_the_boot_passes_as_time_does() -> None:
    clock = PortalClock()
    clock.learn(datetime.now(UTC))
    time.sleep(0.2)
    assert abs(clock.time() - time.time()) < 0.05


@pytest.mark.parametrize("header", [None, "", "tomorrow", "Fri, 99 Foo 9999 99:99:99 GMT"])
def test_date_that_cannot_be_read_changes_nothing(header: str | None) -> None:
    clock = PortalClock(lambda: LOCAL, lambda: 0.0)
    assert (clock.learn_date(header), clock.offset_seconds) == (False, 0)


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)])
def test_call_is_signed_anew_when_the_portal_says_what_time_it_is(portal: FakePortal, home: NodeHome, off: timedelta) -> None:
    clock = PortalClock(lambda: time.time() + off.total_seconds())
    client = PortalClient(portal.origin, home.key(), clock=clock)
    message = ExchangeRequest(
        protocol_version=PROTOCOL_VERSION,
        request_id=home.identity().node_id,
        session_id=home.identity().node_id,
        wait_seconds=0,
        queues=(Tier.CPU,),
        free=NOTHING_FREE,
    )
    assert client.exchange(message).request_id == message.request_id
    assert abs(clock.offset_seconds + off.total_seconds()) < 10
    client.close()
