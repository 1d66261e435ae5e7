"""Disputes: valid results that disagree, and how such a job ends all the same."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from jobs.models import Job
from jobs.services.closing import job_close
from jobs.services.transitions import replica_transition
from jobs.states import JobState, ReplicaState

RULINGS_MAX: Final = 500
"""Disputes that one run rules on; beat runs it again in a minute."""


def disputes_rule(*, now: datetime) -> int:
    """Gives overdue disputes the default ruling: no result, no payment, the reservation back. Returns how many."""
    overdue = Job.objects.filter(state=JobState.DISPUTED, dispute_deadline_at__lte=now).values_list("pk", flat=True)
    return sum(_default_ruling(job_id) for job_id in list(overdue[:RULINGS_MAX]))


def _default_ruling(job_id: UUID) -> bool:
    with transaction.atomic():
        job = Job.objects.select_for_update().get(pk=job_id)
        if job.state != JobState.DISPUTED:
            return False  # ruled since
        for replica in job.replicas.select_for_update().filter(state=ReplicaState.REPORTED):
            replica.job = job
            replica_transition(replica=replica, to=ReplicaState.REJECTED, payload={"verdict": replica.verdict}, concluded_at=timezone.now())
        message = (
            "The hosts' results disagree, and nobody ruled in time. No result is accepted and nobody is paid; the reservation is back. "
            "The comparisons say where results differ: widen the tolerance if they should agree, or fix what makes the program vary."
        )
        job_close(job=job, to=JobState.FAILED, code="dispute_unresolved", message=message)
        return True
