"""Checks of the portal, over HTTP: one that is well, away, replaced, newer, or lives at another time."""

from __future__ import annotations

import pytest

from tests.workers.portal_fake import FakePortal
from workers.doctor.findings import Level
from workers.doctor.portal import clock_check, coordinator_key_check, portal_ask, portal_check, protocol_check
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import CoordinatorInfo


def coordinator_of(portal: FakePortal) -> CoordinatorInfo:
    answer = portal_ask(portal.origin)
    assert isinstance(answer.coordinator, CoordinatorInfo)
    return answer.coordinator


def test_portal_that_is_well(portal: FakePortal) -> None:
    answer = portal_ask(portal.origin)
    assert portal_check(answer).level is Level.OK
    assert clock_check(answer).level is Level.OK
    assert protocol_check(coordinator_of(portal)).level is Level.OK
    assert coordinator_key_check(coordinator_of(portal), pinned=portal.key.public.to_base64()).level is Level.OK


def test_portal_in_trouble_is_told_with_its_answer_and_still_tells_the_time(portal: FakePortal) -> None:
    portal.outage = True
    answer = portal_ask(portal.origin)
    finding = portal_check(answer)
    assert finding.level is Level.FAIL
    assert "answered 502" in finding.found
    assert clock_check(answer).level is Level.OK


def test_portal_that_is_not_there(portal: FakePortal) -> None:
    portal.stop()
    answer = portal_ask(portal.origin)
    finding = portal_check(answer)
    assert finding.level is Level.FAIL
    assert "firewall" in finding.advice
    assert clock_check(answer).level is Level.WARN


@pytest.mark.parametrize(
    ("ahead_seconds", "level", "said"),
    [
        (3600, Level.WARN, "behind the portal's; this host goes by the portal's"),
        (-3600, Level.WARN, "ahead of the portal's; this host goes by the portal's"),
        (30, Level.WARN, "30 s behind the portal's"),
        (-30, Level.WARN, "30 s ahead of the portal's"),
        (2, Level.OK, "agrees"),
    ],
)
def test_clock_that_is_off_is_told_by_how_much_and_which_way(portal: FakePortal, ahead_seconds: float, level: Level, said: str) -> None:
    portal.clock_ahead_seconds = ahead_seconds
    finding = clock_check(portal_ask(portal.origin))
    assert finding.level is level
    # What is told is exact to a second or two.
    assert said.removeprefix("30 s") in finding.found
    assert level is Level.OK or abs(int(finding.found.split()[0]) - abs(ahead_seconds)) <= 2
    assert ("timedatectl set-ntp true" in finding.advice) == (level is not Level.OK)


def test_portal_whose_key_is_another_than_the_pinned_one(portal: FakePortal) -> None:
    pinned = PrivateKey.generate().public
    finding = coordinator_key_check(coordinator_of(portal), pinned=pinned.to_base64())
    assert finding.level is Level.FAIL
    assert portal.key.public.key_id in finding.found
    assert pinned.key_id in finding.found


def test_portal_whose_pinned_key_has_named_its_successor(portal: FakePortal) -> None:
    pinned = portal.key.public
    portal.key_succeed()
    finding = coordinator_key_check(coordinator_of(portal), pinned=pinned.to_base64())
    assert (finding.level, "successor" in finding.found) == (Level.OK, True)


def test_portal_that_claims_the_pinned_id_for_another_key(portal: FakePortal) -> None:
    pinned = PrivateKey.generate().public
    claimed = coordinator_of(portal).model_copy(update={"key_id": pinned.key_id})
    assert coordinator_key_check(claimed, pinned=pinned.to_base64()).level is Level.FAIL
    nonsense = claimed.model_copy(update={"public_key": "AAAA"})
    assert "can't be read" in coordinator_key_check(nonsense, pinned=pinned.to_base64()).found


@pytest.mark.parametrize(("versions", "advice"), [((7, 8), "Upgrade this software"), ((0,), "older than this software"), ((), "older")])
def test_portal_of_another_protocol(portal: FakePortal, versions: tuple[int, ...], advice: str) -> None:
    finding = protocol_check(coordinator_of(portal).model_copy(update={"protocol_versions": versions}))
    assert finding.level is Level.FAIL
    assert advice in finding.advice
