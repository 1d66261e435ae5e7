"""Runs that ended without a result: what is believed of a failure, and when a job has had enough of them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.conf import settings

from jobs.models import Job, Replica
from jobs.services.closing import job_fail
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import job_state_derive, replica_transition
from jobs.states import ReplicaState
from workers.protocol.messages import Failure, FailureCode

HOST_FAILURES: Final = frozenset(
    {
        FailureCode.HOST_ENGINE,
        FailureCode.HOST_DISK,
        FailureCode.HOST_REFUSED,
        FailureCode.HOST_STOPPED,
        FailureCode.HOST_GAVE_UP,
        FailureCode.HOST_ERROR,
        FailureCode.CANCELLED,
    }
)
"""Failures that say nothing about the job: another host gets it."""

JOB_FAULT_OWNERS: Final = 2
"""So many owners must have seen a job fail by its own fault before it is believed, unless the job asked for one copy only."""

NEEDS_SECOND_WITNESS: Final = frozenset({FailureCode.IMAGE_UNAVAILABLE, FailureCode.INPUT_UNAVAILABLE})
"""Of one copy too: what one host can't fetch may be that host's network."""


def replica_failed(*, replica: Replica, job: Job, failure: Failure, now: datetime) -> None:
    """Records what a host reported instead of a result, and what follows for the job. The caller holds the locks of both."""
    was_expired = replica.state == ReplicaState.EXPIRED
    replica_transition(
        replica=replica,
        to=ReplicaState.FAILED,
        payload={"code": failure.code},
        failure_code=failure.code,
        failure_message=failure.message,
        concluded_at=now,
    )
    if failure.code not in HOST_FAILURES and _is_believed(job, failure.code):
        job_fail(job=job, code=failure.code, message=failure.message)
    elif not was_expired:  # an expired lease has its substitute already
        replica_substitute(job=job)
    else:
        job_state_derive(job=job)


def _is_believed(job: Job, code: FailureCode) -> bool:
    if job.copies == 1 and code not in NEEDS_SECOND_WITNESS:
        return True
    faults = job.replicas.filter(state=ReplicaState.FAILED).exclude(failure_code__in=HOST_FAILURES)
    return faults.values("node_owner").distinct().count() >= JOB_FAULT_OWNERS


def replica_substitute(*, job: Job) -> None:
    """Queues one replica in place of one that ended without a vote, or fails the job whose attempts are used up.

    The caller holds the job's lock, and the job is open.
    """
    used = job.replicas.filter(state__in=[ReplicaState.EXPIRED, ReplicaState.FAILED]).count()
    if used >= settings.NEXA_ATTEMPTS_MAX:
        message = (
            f"{used} runs ended without a result: hosts fell silent or reported a failure. "
            "The job's replicas show which; submit it again under another label when the reason is gone."
        )
        job_fail(job=job, code="attempts_exhausted", message=message)
        return
    replicas_queue(job=job, count=1)
    job_state_derive(job=job)
