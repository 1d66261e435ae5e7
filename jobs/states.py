"""States of jobs and replicas, and every transition that is allowed. Pure; nothing else in the project decides a state.

A replica is one attempt by one node: queued -> leased -> running -> reported -> accepted or rejected, with the exits expired, failed and
cancelled. An expired replica may still be reported (late) while its job is open. A job: queued -> running -> verifying -> completed,
failed, disputed or cancelled; a dispute ends as completed or failed by a ruling.
"""

from __future__ import annotations

from enum import StrEnum


class ReplicaState(StrEnum):
    """Where one attempt stands."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    REPORTED = "reported"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    VERIFYING = "verifying"
    COMPLETED = "completed"
    FAILED = "failed"
    DISPUTED = "disputed"
    CANCELLED = "cancelled"


class TransitionError(Exception):
    """A transition that the tables below do not allow: a bug or a race, never the caller's fault."""


REPLICA_TRANSITIONS: dict[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.QUEUED: frozenset({ReplicaState.LEASED, ReplicaState.CANCELLED}),
    ReplicaState.LEASED: frozenset(
        {ReplicaState.RUNNING, ReplicaState.REPORTED, ReplicaState.EXPIRED, ReplicaState.FAILED, ReplicaState.CANCELLED}
    ),
    ReplicaState.RUNNING: frozenset({ReplicaState.REPORTED, ReplicaState.EXPIRED, ReplicaState.FAILED, ReplicaState.CANCELLED}),
    ReplicaState.EXPIRED: frozenset({ReplicaState.REPORTED, ReplicaState.FAILED}),
    ReplicaState.REPORTED: frozenset({ReplicaState.ACCEPTED, ReplicaState.REJECTED, ReplicaState.CANCELLED}),
    ReplicaState.ACCEPTED: frozenset(),
    ReplicaState.REJECTED: frozenset(),
    ReplicaState.FAILED: frozenset(),
    ReplicaState.CANCELLED: frozenset(),
}

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.VERIFYING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.VERIFYING, JobState.FAILED, JobState.CANCELLED}),
    JobState.VERIFYING: frozenset(
        {JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED, JobState.FAILED, JobState.DISPUTED, JobState.CANCELLED}
    ),
    JobState.DISPUTED: frozenset({JobState.COMPLETED, JobState.FAILED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

REPLICA_LIVE = frozenset({ReplicaState.LEASED, ReplicaState.RUNNING})
"""States with a lease that exchanges renew."""
REPLICA_ENDED = frozenset(ReplicaState) - REPLICA_LIVE - {ReplicaState.QUEUED}
"""States in which no host is at it: delivered, failed, lost or stopped."""

REPLICA_VOTES = frozenset({ReplicaState.REPORTED, ReplicaState.ACCEPTED, ReplicaState.REJECTED})
"""States of replicas whose receipt counts, or counted, in a verdict."""

REPLICA_EXCLUSIVE = REPLICA_LIVE | REPLICA_VOTES
"""At most one replica of a job may be in these states for one owner (partial unique index)."""

JOB_OPEN = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.VERIFYING})
JOB_TERMINAL = frozenset(state for state, following in JOB_TRANSITIONS.items() if not following)


def replica_transition_check(old: ReplicaState, new: ReplicaState) -> None:
    """Raises TransitionError unless `old` may become `new`."""
    if new not in REPLICA_TRANSITIONS[old]:
        raise TransitionError(f"replica: {old} cannot become {new}; allowed: {_listed(REPLICA_TRANSITIONS[old])}")


def job_transition_check(old: JobState, new: JobState) -> None:
    """Raises TransitionError unless `old` may become `new`."""
    if new not in JOB_TRANSITIONS[old]:
        raise TransitionError(f"job: {old} cannot become {new}; allowed: {_listed(JOB_TRANSITIONS[old])}")


def _listed(states: frozenset[ReplicaState] | frozenset[JobState]) -> str:
    return ", ".join(sorted(states)) or "nothing, it is terminal"
