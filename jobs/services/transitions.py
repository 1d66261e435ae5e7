"""The only writers of `Job.state` and `Replica.state`, and of the event that goes with each change.

Callers hold the row lock (`select_for_update`) and are inside a transaction.
"""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from jobs.models import Job, JobEvent, Replica
from jobs.nudges import nudge_on_commit, outbox_nudge
from jobs.states import JOB_TERMINAL, REPLICA_LIVE, JobState, ReplicaState, job_transition_check, replica_transition_check


def event_record(
    *, job: Job, kind: str, replica: Replica | None = None, payload: dict[str, Any] | None = None, public: bool = True
) -> JobEvent:
    """Writes an outbox row and nudges the push after the commit. `public` False hides it from the owner until the job is concluded."""
    event = JobEvent.objects.create(job=job, replica=replica, kind=kind, payload=payload or {}, public=public)
    nudge_on_commit(outbox_nudge)
    return event


def replica_transition(*, replica: Replica, to: ReplicaState, payload: dict[str, Any] | None = None, **fields: Any) -> None:
    """Moves a replica to `to`, sets `fields` in the same UPDATE and records the event `replica.<state>`. Raises TransitionError."""
    replica_transition_check(ReplicaState(replica.state), to)
    replica.state = to
    for name, value in fields.items():
        setattr(replica, name, value)
    replica.save(update_fields=["state", *fields])
    event_record(job=replica.job, kind=f"replica.{to}", replica=replica, payload=payload)


def job_transition(*, job: Job, to: JobState, payload: dict[str, Any] | None = None, **fields: Any) -> None:
    """Moves a job to `to`, sets `fields` in the same UPDATE (and `concluded_at` for a terminal state), records `job.<state>`.

    Raises TransitionError.
    """
    job_transition_check(JobState(job.state), to)
    job.state = to
    if to in JOB_TERMINAL:
        fields.setdefault("concluded_at", timezone.now())
    for name, value in fields.items():
        setattr(job, name, value)
    job.save(update_fields=["state", *fields])
    event_record(job=job, kind=f"job.{to}", payload=payload)


def job_state_derive(*, job: Job) -> None:
    """Brings an open job's state in line with its replicas: running while one has a lease, else queued while one waits, else verifying."""
    states = {ReplicaState(state) for state in job.replicas.values_list("state", flat=True)}
    if states & REPLICA_LIVE:
        derived = JobState.RUNNING
    elif ReplicaState.QUEUED in states:
        derived = JobState.QUEUED
    elif ReplicaState.REPORTED in states:
        derived = JobState.VERIFYING
    else:
        return  # its last replica is gone: whoever ended it queues a substitute or closes the job
    if derived != job.state:
        job_transition(job=job, to=derived)
