"""The rule book of what may be shown of an open job."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evidence import disclosure
from jobs.evidence.disclosure import CopiesShown
from jobs.states import JOB_OPEN, JOB_TERMINAL, JobState, ReplicaState


@dataclass(frozen=True)
class Attempt:
    state: str


def attempts(states: str) -> list[Attempt]:
    """`q l r R e f c`: queued, leased, running, Reported, expired, failed, cancelled."""
    names = dict(zip("qlrRefc", ("queued", "leased", "running", "reported", "expired", "failed", "cancelled"), strict=True))
    return [Attempt(names[letter]) for letter in states.split()]


@pytest.mark.parametrize(
    ("policy", "copies", "veiled"), [("fixed", 1, False), ("fixed", 2, True), ("fixed", 9, True), ("spot", 1, True), ("spot", 2, True)]
)
def test_a_job_is_veiled_until_it_is_concluded(policy: str, copies: int, veiled: bool) -> None:
    for state in JobState:
        found = disclosure.is_veiled(state=state, policy=policy, copies=copies)
        assert found == (veiled and state not in JOB_TERMINAL)


@pytest.mark.parametrize("job_state", JobState)
@pytest.mark.parametrize("state", ReplicaState)
def test_a_result_is_shown_when_its_job_is_concluded_and_it_was_judged(job_state: JobState, state: ReplicaState) -> None:
    judged = {ReplicaState.ACCEPTED, ReplicaState.REJECTED, ReplicaState.FAILED}
    assert disclosure.is_result_shown(job_state=job_state, state=state) == (job_state in JOB_TERMINAL and state in judged)


@pytest.mark.parametrize("state", [*JOB_OPEN, JobState.DISPUTED])
def test_a_spot_job_has_one_copy_chosen_or_not(state: JobState) -> None:
    for copies in (1, 2):
        assert disclosure.copies_shown(state=state, policy="spot", copies=copies, quorum=copies) == CopiesShown(1, 1)
    assert disclosure.copies_shown(state=state, policy="fixed", copies=3, quorum=2) == CopiesShown(3, 2)


@pytest.mark.parametrize("state", JOB_TERMINAL)
def test_a_concluded_spot_job_has_its_own_copies(state: JobState) -> None:
    assert disclosure.copies_shown(state=state, policy="spot", copies=2, quorum=2) == CopiesShown(2, 2)


def test_the_state_is_running_from_the_first_lease_on() -> None:
    for state in JOB_OPEN:
        assert disclosure.job_state_shown(state=state, was_taken=True) == JobState.RUNNING
        assert disclosure.job_state_shown(state=state, was_taken=False) == JobState.QUEUED
    for state in set(JobState) - JOB_OPEN:
        assert disclosure.job_state_shown(state=state, was_taken=True) == state


@pytest.mark.parametrize(("job_state", "shown"), [("completed", True), ("failed", False), ("cancelled", False), ("disputed", False)])
def test_rejected_bytes_are_shown_beside_accepted_ones_only(job_state: str, shown: bool) -> None:
    assert disclosure.is_bytes_shown(job_state=JobState(job_state), state=ReplicaState.REJECTED) is shown


def test_bytes_are_shown_of_nothing_that_is_not() -> None:
    for job_state in JobState:
        for state in ReplicaState:
            is_had = disclosure.is_bytes_shown(job_state=job_state, state=state)
            assert is_had <= disclosure.is_result_shown(job_state=job_state, state=state)
            assert not (is_had and disclosure.is_concluded(job_state) is False)


@pytest.mark.parametrize(
    ("states", "copies", "lines"),
    [
        ("q q", 2, "q q"),
        ("R q", 2, "R q"),
        ("R R q", 2, "R R"),
        ("e q", 1, "q"),
        ("f R q", 2, "R q"),
        ("c e r", 2, "r"),
        ("R l", 1, "R"),
    ],
)
def test_lines_are_the_oldest_under_way(states: str, copies: int, lines: str) -> None:
    assert disclosure.lines_of(attempts(states), copies=copies) == attempts(lines)


@given(
    before=st.lists(st.sampled_from(["queued", "leased", "running"]), min_size=1, max_size=6),
    delivered=st.sets(st.integers(min_value=0, max_value=5)),
    more=st.lists(st.sampled_from(["queued", "leased", "running", "reported"]), max_size=3),
)
def test_delivering_and_being_asked_for_more_change_no_line(before: list[str], delivered: set[int], more: list[str]) -> None:
    """Of those that have been taken, whichever of them has delivered since, and whatever was queued after them."""

    def shown(states: list[str]) -> list[ReplicaState]:
        lines = disclosure.lines_of([Attempt(state) for state in states], copies=len(before))
        return [disclosure.replica_state_shown(state=ReplicaState(line.state)) for line in lines]

    after = ["reported" if number in delivered and state != "queued" else state for number, state in enumerate(before)]
    assert shown(before) == shown([*after, *more])


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("job.queued", True),
        ("job.disputed", True),
        ("job.completed", True),
        ("job.verifying", False),
        ("replica.leased", False),
        ("replica.reported", False),
    ],
)
def test_what_happens_to_replicas_is_not_shown(kind: str, shown: bool) -> None:
    assert disclosure.event_kind_shown(kind) == shown
