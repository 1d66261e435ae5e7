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

from jobs.models import Job, Replica, VerificationBatch
from jobs.services import disputes, leases, outbox, settlement, spot_keys, uploads
from jobs.states import ReplicaState
from jobs.verification import job_check, slices_of
from nodes import clones

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


@shared_task(name="control.disputes_rule")
def disputes_rule() -> None:
    """Ends disputes that nobody settled in time."""
    disputes.disputes_rule(now=timezone.now())


@shared_task(name="control.spot_keys_tend")
def spot_keys_tend() -> None:
    """Makes the next key of the draw, and reveals those that have ended."""
    spot_keys.spot_keys_tend(now=timezone.now())


@shared_task(name="control.uploads_sweep")
def uploads_sweep() -> None:
    """Forgets uploads that nobody will finish."""
    uploads.uploads_sweep(now=timezone.now())


@shared_task(name="control.outbox_push")
def outbox_push() -> None:
    """Pushes what happened."""
    outbox.outbox_push()


@shared_task(name="control.clones_tell")
def clones_tell() -> None:
    """Tells owners that a node's key is used in two places."""
    clones.clones_tell()


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
    """Claims the jobs of unclaimed reported replicas; None when there are none. All reported replicas of a job are claimed together.

    Job rows are locked first, as everywhere: two dispatchers that share a job never wait for each other, the second one skips it.
    """
    now = timezone.now()
    claim = timedelta(seconds=settings.NEXA_VERIFY_CLAIM_SECONDS)
    unclaimed = Replica.objects.filter(state=ReplicaState.REPORTED).exclude(verify_claimed_until__gt=now)
    with transaction.atomic():
        found = unclaimed.order_by("verify_claimed_until").values_list("job_id", flat=True)[:BATCH_REPLICAS]
        locked = Job.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=list(found)).order_by("pk")
        # Again, under the locks: another dispatcher may have claimed some and committed since.
        job_ids = sorted(set(unclaimed.filter(job__in=[job.pk for job in locked]).values_list("job_id", flat=True)))
        if not job_ids:
            return None
        # Batches whose chord was lost; their jobs have been claimed again.
        VerificationBatch.objects.filter(created_at__lt=now - 10 * claim).delete()
        Replica.objects.filter(job__in=job_ids, state=ReplicaState.REPORTED).update(verify_claimed_until=now + claim)
        return VerificationBatch.objects.create(job_ids=[str(job_id) for job_id in job_ids])


def _claims_release(batch: VerificationBatch) -> None:
    Replica.objects.filter(job__in=_job_ids(batch), state=ReplicaState.REPORTED).update(verify_claimed_until=None)
    batch.delete()


def _job_ids(batch: VerificationBatch) -> list[UUID]:
    return [UUID(job_id) for job_id in batch.job_ids]
