"""The end of a job without a result, and of replicas that nobody needs any more."""

from __future__ import annotations

from django.utils import timezone

from jobs.models import Job
from jobs.services.transitions import ReplicaStep, job_transition, steps_take
from jobs.states import REPLICA_LIVE, JobState, ReplicaState
from ledger.movements import movements_post
from ledger.services import account_of, refund_of


def job_close(*, job: Job, to: JobState, code: str, message: str) -> None:
    """Ends a job without a result: cancels what is queued or out, gives the reservation back. The caller holds the job's row lock."""
    _replicas_cancel(job, message)
    job_transition(job=job, to=to, payload={"code": code}, failure_code=code, failure_message=message)
    refund = refund_of(account=account_of(user=job.owner), job_id=job.pk, amount_micro=job.reserved_micro)
    if refund:
        movements_post([refund])


def job_fail(*, job: Job, code: str, message: str) -> None:
    """`job_close` as failed."""
    job_close(job=job, to=JobState.FAILED, code=code, message=message)


def _replicas_cancel(job: Job, reason: str) -> None:
    """Cancels what is queued or out, and receipts that nobody will judge any more. Hosts are told by their next exchange."""
    ends = [ReplicaState.QUEUED, ReplicaState.REPORTED, *REPLICA_LIVE]
    fields = {"cancel_reason": reason[:200], "concluded_at": timezone.now()}
    # Locked in the order in which renewals lock them; what happened is told in the order in which they came to be.
    locked = job.replicas.select_for_update(no_key=True).filter(state__in=ends).order_by("pk")
    found = sorted(locked, key=lambda replica: (replica.created_at, replica.pk))
    steps_take([ReplicaStep(replica, ReplicaState.CANCELLED, fields=fields) for replica in found])
