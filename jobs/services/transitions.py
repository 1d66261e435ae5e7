"""The only writers of `Job.state` and `Replica.state`, and of the event that goes with each change.

Callers hold the row locks (`select_for_update`) and are inside a transaction. Many changes at once are a list of steps: one UPDATE for each
model and set of fields, one INSERT for all events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from jobs.bulk import rows_insert, rows_update
from jobs.models import Job, JobEvent, Replica
from jobs.nudges import nudge_on_commit, outbox_nudge
from jobs.states import JOB_TERMINAL, REPLICA_LIVE, JobState, ReplicaState, job_transition_check, replica_transition_check


@dataclass(frozen=True)
class ReplicaStep:
    """`replica` becomes `to`; `fields` are set along with the state. Its event is `replica.<state>`, with `payload`."""

    replica: Replica
    to: ReplicaState
    payload: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobStep:
    """`job` becomes `to`; `fields` are set along, and `concluded_at` for a terminal state. Its event is `job.<state>`, with `payload`."""

    job: Job
    to: JobState
    payload: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


Step = ReplicaStep | JobStep
_TAKEN: Final = frozenset({JobState.RUNNING, JobState.VERIFYING})
"""A job gets into these states only after a host has taken it."""


def steps_take(steps: Sequence[Step]) -> None:
    """Takes the steps in their order; one row may take several, and only its last state is written. Raises TransitionError."""
    changed: dict[tuple[type, Any], tuple[Job | Replica, set[str]]] = {}
    events = []
    now = timezone.now()
    for step in steps:
        row = _step_apply(step)
        names = {"state", *step.fields}
        if isinstance(step, JobStep) and step.to in _TAKEN and not step.job.was_taken:
            step.job.was_taken = True
            names.add("was_taken")
        if isinstance(step, JobStep) and step.to in JOB_TERMINAL and "concluded_at" not in names:
            row.concluded_at = now
            names.add("concluded_at")
        changed.setdefault((type(row), row.pk), (row, set()))[1].update(names)
        events.append(_event_of(step))
    groups: dict[tuple[type, tuple[str, ...]], list[Job | Replica]] = {}
    for (model, _), (row, names) in changed.items():
        groups.setdefault((model, tuple(sorted(names))), []).append(row)
    for (_, fields), rows in groups.items():
        rows_update(rows, fields)
    _events_write(events)


def _step_apply(step: Step) -> Job | Replica:
    row: Job | Replica
    if isinstance(step, ReplicaStep):
        row = step.replica
        replica_transition_check(ReplicaState(row.state), step.to)
    else:
        row = step.job
        job_transition_check(JobState(row.state), step.to)
    row.state = step.to
    for name, value in step.fields.items():
        setattr(row, name, value)
    return row


def _event_of(step: Step) -> dict[str, Any]:
    if isinstance(step, ReplicaStep):
        return _event(step.replica.job_id, f"replica.{step.to}", step.payload, replica_id=step.replica.pk)
    return _event(step.job.pk, f"job.{step.to}", step.payload)


def _event(job_id: UUID, kind: str, payload: dict[str, Any], *, replica_id: UUID | None = None, public: bool = True) -> dict[str, Any]:
    """What a row of JobEvent says. Of thousands, instances would cost more than writing them."""
    return {"job_id": job_id, "replica_id": replica_id, "kind": kind, "payload": payload, "public": public}


def _events_write(records: Sequence[dict[str, Any]]) -> None:
    """Writes the events, which are pushed after the commit."""
    if records:
        rows_insert(JobEvent(), records)
        nudge_on_commit(outbox_nudge)


def event_record(
    *, job: Job, kind: str, replica: Replica | None = None, payload: dict[str, Any] | None = None, public: bool = True
) -> None:
    """One event. `public` False hides it from the owner until the job is concluded."""
    _events_write([_event(job.pk, kind, payload or {}, replica_id=replica.pk if replica else None, public=public)])


def replica_transition(*, replica: Replica, to: ReplicaState, payload: dict[str, Any] | None = None, **fields: Any) -> None:
    """One `ReplicaStep`. Raises TransitionError."""
    steps_take([ReplicaStep(replica, to, payload or {}, fields)])


def job_transition(*, job: Job, to: JobState, payload: dict[str, Any] | None = None, **fields: Any) -> None:
    """One `JobStep`. Raises TransitionError."""
    steps_take([JobStep(job, to, payload or {}, fields)])


def job_state_derive(*, job: Job) -> None:
    """`job_states_derive` of one job."""
    job_states_derive(jobs=[job])


def job_states_derive(*, jobs: Sequence[Job]) -> None:
    """Brings open jobs' states in line with their replicas: running while one has a lease, else queued while one waits, else verifying."""
    states: dict[Any, set[ReplicaState]] = {job.pk: set() for job in jobs}
    for job_id, state in Replica.objects.filter(job__in=list(states)).values_list("job_id", "state"):
        states[job_id].add(ReplicaState(state))
    steps = []
    for job in jobs:
        derived = _derived(states[job.pk])
        if derived is not None and derived != job.state:
            steps.append(JobStep(job, derived))
    steps_take(steps)


def _derived(states: set[ReplicaState]) -> JobState | None:
    if states & REPLICA_LIVE:
        return JobState.RUNNING
    if ReplicaState.QUEUED in states:
        return JobState.QUEUED
    if ReplicaState.REPORTED in states:
        return JobState.VERIFYING
    return None  # its last replica is gone: whoever ended it queues a substitute or closes the job
