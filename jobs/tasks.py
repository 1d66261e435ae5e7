"""Celery tasks of jobs: thin, named by the queue that runs them, idempotent.

`control` and `conclude` tasks may fail and are run again by beat; `verify` tasks never raise, because a chord whose header raised would
never run its body. Whatever is lost here is claimed again from PostgreSQL.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from celery import chord, shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from jobs.models import Replica, VerificationBatch
from jobs.services import leases, outbox, settlement
from jobs.states import ReplicaState
from jobs.verification import job_check, slices_of

log = logging.getLogger(__name__)

BATCH_REPLICAS = 1000
HEADER_PARALLEL = 8
"""Header tasks of one chord, at most."""


@shared_task(name="control.leases_reap")
def leases_reap() -> None:
    """Expires leases whose hosts went silent, and queues substitutes."""
    leases.leases_reap(now=timezone.now())


@shared_task(name="control.queue_deadlines_enforce")
def queue_deadlines_enforce() -> None:
    """Fails jobs that no host took in time."""
    leases.queue_deadlines_enforce(now=timezone.now())


@shared_task(name="control.outbox_push")
def outbox_push() -> None:
    """Pushes what happened."""
    outbox.outbox_push()


@shared_task(name="control.verification_dispatch")
def verification_dispatch() -> None:
    """Claims reported replicas and starts a chord over their jobs: one job at once when idle, many when busy."""
    while batch := _batch_claim():
        header = [replicas_check.s([str(job_id) for job_id in part]) for part in slices_of(_job_ids(batch), parallel=HEADER_PARALLEL)]
        try:
            chord(header)(batch_settle.si(str(batch.pk)))
        except (OperationalError, RedisError, OSError) as error:
            log.warning("verification waits, the broker is away: %s", error)
            _claims_release(batch)
            return


@shared_task(name="verify.replicas_check", ignore_result=False)
def replicas_check(job_ids: list[str]) -> None:
    """Header: checks the reported replicas of a slice of jobs and writes evidence. Never raises."""
    for job_id in job_ids:
        try:
            job_check(job_id=UUID(job_id))
        except Exception:  # a job whose check breaks must not keep the other jobs of its chord from being settled
            log.exception("checks of job %s not made; they are made again when its claim expires", job_id)


@shared_task(name="conclude.batch_settle")
def batch_settle(batch_id: str) -> None:
    """Body: settles each job of the batch in its own transaction, from the evidence rows, and forgets the batch."""
    batch = VerificationBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        return  # delivered twice; the first delivery has settled it
    for job_id in _job_ids(batch):
        try:
            settlement.job_settle(job_id=job_id)
        except Exception:  # one job's failure must not keep the others of the batch from being paid
            log.exception("job %s not settled; it is settled again when its claim expires", job_id)
    batch.delete()


def _batch_claim() -> VerificationBatch | None:
    """Claims the jobs of unclaimed reported replicas; None when there are none. All reported replicas of a job are claimed together."""
    now = timezone.now()
    with transaction.atomic():
        found = (
            Replica.objects.select_for_update(skip_locked=True)
            .filter(state=ReplicaState.REPORTED)
            .exclude(verify_claimed_until__gt=now)
            .order_by("pk")[:BATCH_REPLICAS]
        )
        job_ids = sorted({replica.job_id for replica in found})
        if not job_ids:
            return None
        claim = timedelta(seconds=settings.NEXA_VERIFY_CLAIM_SECONDS)
        # Batches whose chord was lost; their jobs have been claimed again.
        VerificationBatch.objects.filter(created_at__lt=now - 10 * claim).delete()
        until = now + claim
        Replica.objects.filter(job__in=job_ids, state=ReplicaState.REPORTED).update(verify_claimed_until=until)
        return VerificationBatch.objects.create(job_ids=[str(job_id) for job_id in job_ids])


def _claims_release(batch: VerificationBatch) -> None:
    Replica.objects.filter(job__in=_job_ids(batch), state=ReplicaState.REPORTED).update(verify_claimed_until=None)
    batch.delete()


def _job_ids(batch: VerificationBatch) -> list[UUID]:
    return [UUID(job_id) for job_id in batch.job_ids]
