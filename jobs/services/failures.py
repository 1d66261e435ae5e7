"""Runs that ended without a result: what is believed of a failure, and when a job has had enough of them.

1. A fault of the job (jobs/faults.py) ends it once NEXA_FAULT_OWNERS owners have seen one; of a job of one copy, the first is believed, but
   for what may be the network of one host.
2. A fault of a host, or a lease that expired, says nothing about the job: another host gets it, until NEXA_ATTEMPTS_MAX runs are used up.
   Where the results that are in may be a quorum and nobody has decided yet, settlement decides first, whoever's the fault: what agrees is
   paid. If it isn't one, a fault of the job that is believed ends it then (jobs/services/settlement.py); else settlement asks for more, and
   the next failure ends it.
3. A fault of the portal counts for nothing.
4. Failures of many jobs of one image close the image for a while (jobs/services/breakers.py): whoever records failures has that considered
   when all of them are recorded.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.conf import settings

from jobs.faults import FAILURES, JOB_CODES, OF_THE_JOB, PORTAL_CODES, failure_fault, is_believed
from jobs.models import Job, Replica
from jobs.services.closing import job_fail
from jobs.services.replicas import replicas_queue
from jobs.services.settlement import NEVER
from jobs.services.transitions import job_state_derive, replica_transition
from jobs.states import ReplicaState
from workers.protocol.messages.receipt import Failure
from workers.protocol.plurals import counted


def replica_failed(*, replica: Replica, job: Job, failure: Failure, now: datetime) -> None:
    """Records what a host reported instead of a result, and what follows for the job. The caller holds the locks of both."""
    was_expired = replica.state == ReplicaState.EXPIRED
    replica_transition(
        replica=replica,
        to=ReplicaState.FAILED,
        payload={"code": failure.code, "fault": FAILURES[failure.code]},
        failure_code=failure.code,
        failure_message=failure.message,
        concluded_at=now,
    )
    if FAILURES[failure.code] in OF_THE_JOB and _is_believed(job):
        if _settlement_is_due(job):
            job_state_derive(job=job)
        else:
            job_fail(job=job, code=failure.code, message=failure.message)
    elif not was_expired:  # an expired lease has its substitute already
        replica_substitute(job=job)
    else:
        job_state_derive(job=job)


def _is_believed(job: Job) -> bool:
    faults = job.replicas.filter(state=ReplicaState.FAILED, failure_code__in=JOB_CODES)
    return is_believed(faults.values_list("failure_code", "node_owner"), copies=job.copies, owners_min=settings.NEXA_FAULT_OWNERS)


def replica_substitute(*, job: Job) -> None:
    """Queues one replica in place of one that ended without a vote, or fails the job whose attempts are used up.

    The caller holds the job's lock, and the job is open.
    """
    ended = job.replicas.filter(state__in=[ReplicaState.EXPIRED, ReplicaState.FAILED]).exclude(failure_code__in=PORTAL_CODES)
    codes = ended.values_list("state", "failure_code")
    used = Counter("silence" if state == ReplicaState.EXPIRED else str(failure_fault(code)) for state, code in codes)
    if used.total() < settings.NEXA_ATTEMPTS_MAX:
        replicas_queue(job=job, count=1)
    elif not _settlement_is_due(job):
        by_class = ", ".join(f"{count} by {name}" for name, count in sorted(used.items()))
        message = (
            f"{counted(used.total(), 'run')} ended without a result ({by_class}): hosts fell silent or reported a failure. "
            "The job's replicas show which; submit it again under another label when the reason is gone."
        )
        job_fail(job=job, code="attempts_exhausted", message=message)
        return
    job_state_derive(job=job)


def _settlement_is_due(job: Job) -> bool:
    """Whether as many results as the quorum asks for are in, and one of them has not been looked at."""
    reported = job.replicas.filter(state=ReplicaState.REPORTED).values_list("verify_claimed_until", flat=True)
    return len(reported) >= job.quorum and any(until != NEVER for until in reported)
