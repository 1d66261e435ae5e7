"""Celery tasks of jobs: thin, named by the queue that runs them, idempotent.

`control` and `conclude` tasks may fail and are run again by beat; `verify` tasks never raise, because a chord whose header raised would
never run its body. Whatever is lost here is claimed again from PostgreSQL.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from celery import chord, shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from jobs.blobs import collection
from jobs.checking import claims
from jobs.checking.making import jobs_check
from jobs.models import VerificationBatch
from jobs.services import disputes, leases, outages, outbox, settlement, spot_keys
from nodes import clones, trouble

log = logging.getLogger(__name__)

HEADER_SPARE_SECONDS = 60


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


@shared_task(name="control.blobs_collect")
def blobs_collect() -> None:
    """Removes what nothing wants any more from the part of the blob store whose turn it is."""
    now = timezone.now()
    collection.shard_collect(shard=collection.shard_due(now=now), now=now)


@shared_task(name="control.outbox_push")
def outbox_push() -> None:
    """Pushes what happened."""
    outbox.outbox_push()


@shared_task(name="control.clones_tell")
def clones_tell() -> None:
    """Tells owners that a node's key is used in two places."""
    clones.clones_tell()


@shared_task(name="control.nodes_silent_tell")
def nodes_silent_tell() -> None:
    """Tells owners that a node has been silent for an hour."""
    trouble.nodes_silent_tell(now=timezone.now(), heard_since=outages.heard_since())


@shared_task(name="control.verification_dispatch")
def verification_dispatch() -> None:
    """Claims reported replicas and starts chords over their jobs: one job at once when idle, many when busy, large archives apart."""
    claims.batches_forget(now=timezone.now())
    while batches := claims.batches_claim(now=timezone.now()):
        for place, batch in enumerate(batches):
            try:
                _chord_send(batch)
            except (OperationalError, RedisError, OSError) as error:
                log.warning("verification waits, the broker is away: %s", error)
                claims.batches_release(batches[place:])
                return


def _chord_send(batch: claims.Batch) -> None:
    """The time limit only ends what hangs: the claim has run out long before, and another worker has taken over."""
    soft_seconds = HEADER_SPARE_SECONDS + 2 * batch.claim_seconds
    limits: dict[str, Any] = {"soft_time_limit": soft_seconds, "time_limit": soft_seconds + 60}
    header = [replicas_check.signature(([str(job_id) for job_id in part],), **limits) for part in batch.slices]
    chord(header)(batch_settle.si(str(batch.row.pk)))


@shared_task(name="verify.replicas_check", ignore_result=False)
def replicas_check(job_ids: list[str]) -> None:
    """Header: checks the reported replicas of a slice of jobs and writes evidence.

    Never raises, whatever ends it: what was not checked must not keep the other jobs of its chord from being settled. It is checked again
    when its claim expires.
    """
    try:
        jobs_check(job_ids=[UUID(job_id) for job_id in job_ids])
    except BaseException:  # also SystemExit, MemoryError and the time limit
        log.exception("checks of %d jobs were broken off; what is missing is checked again when their claims expire", len(job_ids))


@shared_task(name="conclude.batch_settle")
def batch_settle(batch_id: str) -> None:
    """Body: settles the jobs of the batch from the evidence rows, and forgets the batch."""
    batch = VerificationBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        return  # delivered twice; the first delivery has settled it
    settlement.jobs_settle(job_ids=[UUID(job_id) for job_id in batch.job_ids])
    batch.delete()
