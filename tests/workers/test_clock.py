"""The portal's time on a machine whose clock is off."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.workers.portal_fake import FakePortal
from workers.clock import PortalClock, elapsed_seconds
from workers.home import NodeHome
from workers.portal import PortalClient
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.machine import Tier
from workers.resources import NOTHING_FREE

LOCAL = 1_800_000_000.0


@pytest.mark.parametrize("off_seconds", [-3600, -30, 30, 3600])
def test_clock_that_is_off_is_corrected(off_seconds: int) -> None:
    clock = PortalClock(lambda: LOCAL, elapsed=lambda: 1000.0)
    clock.learn(datetime.fromtimestamp(LOCAL + off_seconds, UTC))
    assert clock.time() == LOCAL + off_seconds
    assert clock.shift(datetime.fromtimestamp(LOCAL, UTC)) == clock.now()


def test_small_difference_changes_nothing_and_a_clock_that_was_set_is_right_again() -> None:
    clock = PortalClock(lambda: LOCAL, elapsed=lambda: 1000.0)
    clock.learn(datetime.fromtimestamp(LOCAL + 3, UTC))
    assert clock.offset_seconds == 0
    clock.learn(datetime.fromtimestamp(LOCAL + 60, UTC))
    clock.learn(datetime.fromtimestamp(LOCAL, UTC))
    assert clock.offset_seconds == 0


@pytest.mark.parametrize("wrong_seconds", [-3 * 86400, -1800, 1800, 3 * 86400])
def test_setting_the_clock_changes_nothing_before_and_after_the_next_answer(wrong_seconds: int) -> None:
    passed = 0.0
    wrong = float(wrong_seconds)
    clock = PortalClock(lambda: LOCAL + passed + wrong, elapsed=lambda: 1000.0 + passed)
    clock.learn(datetime.fromtimestamp(LOCAL, UTC))
    passed, wrong = 7.0, 0.0  # set right
    assert (clock.time(), clock.offset_seconds) == (LOCAL + 7, 0)
    assert not clock.learn(datetime.fromtimestamp(LOCAL + 7, UTC))
    wrong = float(wrong_seconds)  # and wrong again
    assert (clock.time(), clock.offset_seconds) == (LOCAL + 7, -wrong_seconds)


def test_clock_goes_on_by_one_that_counts_the_seconds_of_sleep() -> None:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    reference = time.monotonic if boottime is None else lambda: time.clock_gettime(boottime)
    assert reference() <= elapsed_seconds() <= reference()


def test_clock_that_is_set_before_the_first_answer_is_this_machines() -> None:
    local = LOCAL
    clock = PortalClock(lambda: local, elapsed=lambda: 1000.0)
    local += 3600
    assert (clock.time(), clock.is_confirmed) == (LOCAL + 3600, False)


@pytest.mark.parametrize("header", [None, "", "tomorrow", "Fri, 99 Foo 9999 99:99:99 GMT"])
def test_date_that_cannot_be_read_changes_nothing(header: str | None) -> None:
    clock = PortalClock(lambda: LOCAL, elapsed=lambda: 1000.0)
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
