"""The tables of transitions: what they promise of every state, and that nothing else is allowed."""

from __future__ import annotations

import itertools

import pytest

from jobs.states import (
    JOB_OPEN,
    JOB_TERMINAL,
    JOB_TRANSITIONS,
    REPLICA_EXCLUSIVE,
    REPLICA_LIVE,
    REPLICA_TRANSITIONS,
    REPLICA_VOTES,
    JobState,
    ReplicaState,
    TransitionError,
    job_transition_check,
    replica_transition_check,
)

PATHS = [
    ("queued", "leased", "running", "reported", "accepted"),
    ("queued", "leased", "reported", "rejected"),
    ("queued", "leased", "expired", "reported", "cancelled"),
    ("queued", "leased", "running", "failed"),
    ("queued", "cancelled"),
    ("queued", "leased", "running", "expired", "failed"),
]


def test_every_state_has_a_row() -> None:
    assert set(REPLICA_TRANSITIONS) == set(ReplicaState)
    assert set(JOB_TRANSITIONS) == set(JobState)


def test_every_job_state_leads_to_a_terminal_one() -> None:
    for state in JobState:
        seen, rest = {state}, [state]
        while rest:
            for following in JOB_TRANSITIONS[rest.pop()] - seen:
                seen.add(following)
                rest.append(following)
        assert seen & JOB_TERMINAL


def test_terminal_and_open_job_states() -> None:
    assert {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED} == JOB_TERMINAL
    assert set(JobState) - JOB_TERMINAL - {JobState.DISPUTED} == JOB_OPEN


def test_sets_of_replica_states() -> None:
    assert not REPLICA_LIVE & REPLICA_VOTES
    assert REPLICA_LIVE | REPLICA_VOTES == REPLICA_EXCLUSIVE
    assert {ReplicaState.QUEUED, ReplicaState.EXPIRED, ReplicaState.FAILED, ReplicaState.CANCELLED}.isdisjoint(REPLICA_EXCLUSIVE)


@pytest.mark.parametrize("path", PATHS, ids="-".join)
def test_lives_of_replicas_that_happen_are_allowed(path: tuple[str, ...]) -> None:
    for old, new in itertools.pairwise(path):
        replica_transition_check(ReplicaState(old), ReplicaState(new))


@pytest.mark.parametrize(("old", "new"), list(itertools.product(ReplicaState, repeat=2)))
def test_replica_transition_is_allowed_exactly_by_its_table(old: ReplicaState, new: ReplicaState) -> None:
    if new in REPLICA_TRANSITIONS[old]:
        replica_transition_check(old, new)
    else:
        with pytest.raises(TransitionError, match=f"replica: {old} cannot become {new}"):
            replica_transition_check(old, new)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, repeat=2)))
def test_job_transition_is_allowed_exactly_by_its_table(old: JobState, new: JobState) -> None:
    if new in JOB_TRANSITIONS[old]:
        job_transition_check(old, new)
    else:
        with pytest.raises(TransitionError, match=f"job: {old} cannot become {new}"):
            job_transition_check(old, new)


def test_nothing_becomes_itself_and_nothing_leaves_a_terminal_state() -> None:
    for table in (REPLICA_TRANSITIONS, JOB_TRANSITIONS):
        assert all(state not in following for state, following in table.items())
    with pytest.raises(TransitionError, match="nothing, it is terminal"):
        job_transition_check(JobState.COMPLETED, JobState.FAILED)
