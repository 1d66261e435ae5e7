"""Sessions of a node: the rules, and that no honest host is ever taken for a copy, in whatever order the network delivers."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from jobs.sessions import SUPERSEDED_KEPT, Arrival, Sessions

A, B, C = (uuid4() for _ in range(3))


def test_the_rules_in_order() -> None:
    sessions = Sessions(A, 100, {})
    assert sessions.arrival_of(A, signed_at=0) is Arrival.CURRENT
    assert sessions.arrival_of(B, signed_at=100) is Arrival.LATE
    assert sessions.arrival_of(B, signed_at=101) is Arrival.NEW
    sessions = sessions.followed_by(B, signed_at=101)
    assert (sessions.current, sessions.began_at, dict(sessions.superseded)) == (B, 101, {A: 101})
    assert sessions.arrival_of(A, signed_at=101) is Arrival.LATE
    assert sessions.arrival_of(A, signed_at=102) is Arrival.RETURNED
    assert sessions.followed_by(C, signed_at=200).arrival_of(A, signed_at=150) is Arrival.RETURNED


def test_as_many_are_remembered_as_is_said() -> None:
    sessions, ids = Sessions(uuid4(), 0, {}), [uuid4() for _ in range(SUPERSEDED_KEPT + 5)]
    for number, session_id in enumerate(ids, start=1):
        sessions = sessions.followed_by(session_id, signed_at=number)
    assert list(sessions.superseded) == ids[-SUPERSEDED_KEPT - 1 : -1]


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[UUID, int]]:
    """Requests of workers that ran one after the other on one host, signed by one clock, delivered in any order."""
    requests, clock = [], 1_800_000_000
    for _ in range(draw(st.integers(1, 5))):
        session_id = uuid4()
        for _ in range(draw(st.integers(1, 4))):
            clock += draw(st.integers(0, 3))
            requests.append((session_id, clock))
        clock += 1 if draw(st.booleans()) else 0
    return draw(st.permutations(requests))


@given(deliveries())
def test_restarts_are_never_refused_in_whatever_order_requests_arrive(requests: list[tuple[UUID, int]]) -> None:
    (first, began_at), *rest = requests
    sessions = Sessions(first, began_at, {})
    for session_id, signed_at in rest:
        arrival = sessions.arrival_of(session_id, signed_at=signed_at)
        assert arrival is not Arrival.RETURNED
        if arrival is Arrival.NEW:
            sessions = sessions.followed_by(session_id, signed_at=signed_at)


@given(skew=st.integers(-60, 60), turns=st.integers(1, 10), period=st.integers(1, 25))
def test_two_workers_at_once_are_seen_whatever_their_clocks(skew: int, turns: int, period: int) -> None:
    """The copy starts `turns` exchanges after the original; both go on. Clocks differ by what a signature may."""
    sessions, seen = Sessions(A, 1_800_000_000, {}), False
    now = 1_800_000_000 + turns * period
    for _ in range(200):
        for session_id, signed_at in ((A, now), (B, now + skew)):
            match sessions.arrival_of(session_id, signed_at=signed_at):
                case Arrival.NEW:
                    sessions = sessions.followed_by(session_id, signed_at=signed_at)
                case Arrival.RETURNED:
                    seen = True
                case Arrival.CURRENT | Arrival.LATE:
                    pass
        now += period
    assert seen
