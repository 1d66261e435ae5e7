"""What a verify worker reads of jobs: the only queries of its checks, column by column.

Its database role may read these columns and no others (VERIFY in nexaportal/database_grants.py). A check that needs another one names it in
both places; PostgreSQL refuses it otherwise, also where Django would fetch it later, by itself.
"""

from __future__ import annotations

from uuid import UUID

from jobs.models import Job, Replica
from jobs.states import ReplicaState


def job_to_check(*, job_id: UUID) -> Job:
    """The job with its descriptor, nothing else. Raises Job.DoesNotExist."""
    return Job.objects.only("descriptor").get(pk=job_id)


def replicas_to_check(*, job: Job) -> list[Replica]:
    """The job's reported replicas with receipt, log and key, in the order in which the receipts came."""
    found = (
        job.replicas.filter(state=ReplicaState.REPORTED)
        .select_related("receipt__log", "node_key")
        .only(
            "job",
            "state",
            "lease_id",
            "order_digest",
            "node_key__public_key",
            "receipt__envelope",
            "receipt__archive",
            "receipt__log__size_bytes",
            "receipt__received_at",
        )
    )
    return list(found.order_by("receipt__received_at", "pk"))
