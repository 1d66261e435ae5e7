"""Which jobs are checked now: claims of reported replicas, cut into batches, and batches into the slices of a chord's header.

1. All reported replicas of a job are claimed together, until their check should long be over; then they are claimed again.
2. Jobs with large archives are each a batch of their own: no other job waits for them to be settled.
3. The others of a claim are one batch: a single one when the portal is idle, hundreds when it is busy; slices of about equal work.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.fields.json import KeyTextTransform

from jobs.checking.allowances import job_expected_seconds
from jobs.descriptor import VerificationMethod
from jobs.models import Job, Replica, VerificationBatch
from jobs.states import ReplicaState

BATCH_REPLICAS: Final = 1000
SLICES_MAX: Final = 8
"""Header tasks of one chord, at most."""
BATCH_KEPT: Final = timedelta(days=1)
"""A batch whose chord was lost is forgotten after this; its jobs have been claimed again long before."""
SLICE_SECONDS: Final = 0.5
"""Less work than this is not cut: a task and a child of its own cost more than they save."""
_JOB_SECONDS: Final = 0.002
"""What a job costs beside the bytes of its archives: it weighs slices, nothing else."""


@dataclass(frozen=True)
class Batch:
    """A claimed batch: its row, its jobs as header slices, and for how long they are claimed."""

    row: VerificationBatch
    slices: Sequence[Sequence[UUID]]
    claim_seconds: float

    @property
    def job_ids(self) -> list[UUID]:
        return [job_id for part in self.slices for job_id in part]


def batches_claim(*, now: datetime) -> list[Batch]:
    """Claims unclaimed jobs, at most as many as have BATCH_REPLICAS replicas or a few more; empty when there are none.

    Job rows are locked first, as everywhere: two dispatchers that share a job never wait for each other, the second one skips it.
    """
    unclaimed = Replica.objects.filter(state=ReplicaState.REPORTED).exclude(verify_claimed_until__gt=now)
    with transaction.atomic():
        found = unclaimed.order_by("verify_claimed_until").values_list("job_id", flat=True)[:BATCH_REPLICAS]
        locked = Job.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=list(found)).order_by("pk")
        job_ids = [job_id for (job_id,) in locked.values_list("pk")]
        if not job_ids:
            return []
        # Under the locks: another dispatcher may have claimed some and committed since.
        reported = list(
            Replica.objects.filter(job__in=job_ids, state=ReplicaState.REPORTED)
            .annotate(method=KeyTextTransform("method", "job__descriptor__verification"))
            .values_list("job_id", "verify_claimed_until", "receipt__archive__size_bytes", "receipt__log__size_bytes", "method")
        )
        waiting = {job_id for job_id, until, *_ in reported if until is None or until <= now}
        batches = _batches([row for row in reported if row[0] in waiting])
        for batch in batches:
            claimed = Replica.objects.filter(job__in=batch.job_ids, state=ReplicaState.REPORTED)
            claimed.update(verify_claimed_until=now + timedelta(seconds=batch.claim_seconds))
        VerificationBatch.objects.bulk_create(one.row for one in batches)
    return batches


def batches_release(batches: Sequence[Batch]) -> None:
    """Gives claims back: their chords were not sent."""
    job_ids = [job_id for batch in batches for job_id in batch.job_ids]
    with transaction.atomic():
        Replica.objects.filter(job__in=job_ids, state=ReplicaState.REPORTED).update(verify_claimed_until=None)
        VerificationBatch.objects.filter(pk__in=[batch.row.pk for batch in batches]).delete()


def batches_forget(*, now: datetime) -> None:
    """Forgets batches whose chord was lost."""
    VerificationBatch.objects.filter(created_at__lt=now - BATCH_KEPT).delete()


def slices_of(seconds: Mapping[UUID, float], *, parallel: int) -> list[list[UUID]]:
    """Cuts jobs into header slices of about equal work: one job each while few, `parallel` parts when many."""
    slices: list[list[UUID]] = [[] for _ in range(min(parallel, len(seconds)))]
    lightest = [(0.0, number) for number in range(len(slices))]
    for job_id in sorted(seconds, key=lambda one: seconds[one], reverse=True):
        weight, number = heapq.heappop(lightest)
        slices[number].append(job_id)
        heapq.heappush(lightest, (weight + _JOB_SECONDS + seconds[job_id], number))
    return slices


def _batches(reported: Sequence[tuple[Any, ...]]) -> list[Batch]:
    """One for each job with a large archive, and one for all the others."""
    sizes: dict[UUID, list[int]] = defaultdict(list)
    large: set[UUID] = set()
    by_value: set[UUID] = set()
    for job_id, _, archive_bytes, log_bytes, method in reported:
        sizes[job_id].append((archive_bytes or 0) + (log_bytes or 0))
        if (archive_bytes or 0) > settings.NEXA_LARGE_ARCHIVE_BYTES:
            large.add(job_id)
        if method == VerificationMethod.NUMERIC:
            by_value.add(job_id)
    seconds = {job_id: job_expected_seconds(sizes[job_id], by_value=job_id in by_value) for job_id in sizes}
    small = {job_id: seconds[job_id] for job_id in sizes if job_id not in large}
    return [_batch(part) for part in (small, *({job_id: seconds[job_id]} for job_id in sizes if job_id in large)) if part]


def _batch(seconds: Mapping[UUID, float]) -> Batch:
    work_seconds = sum(seconds.values()) + _JOB_SECONDS * len(seconds)
    slices = slices_of(seconds, parallel=min(SLICES_MAX, ceil(work_seconds / SLICE_SECONDS)))
    longest = max(sum(seconds[job_id] for job_id in part) for part in slices)
    row = VerificationBatch(job_ids=[str(job_id) for job_id in seconds])
    return Batch(row, slices, settings.NEXA_VERIFY_CLAIM_SECONDS + longest)
