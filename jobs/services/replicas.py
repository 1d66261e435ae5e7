"""Replicas come into being here: at submission, as substitutes, and when verification asks for more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from jobs.bulk import rows_insert
from jobs.descriptor import Descriptor
from jobs.models import Job, JobKind, Replica
from jobs.nudges import exchanges_wake
from jobs.services.breakers import closed_until_of


def replicas_queue(*, job: Job, count: int) -> None:
    """Queues `count` replicas with what the job's descriptor needs, and wakes waiting exchanges after the commit."""
    replicas_queue_all(like=job, job_ids=[job.pk], count=count, descriptor=Descriptor.model_validate(job.descriptor))


def replicas_queue_all(*, like: Job, job_ids: Sequence[UUID], count: int, descriptor: Descriptor) -> None:
    """Queues `count` replicas of each of these jobs, in their order.

    They are `like` one another, with `descriptor`, in all that a host is chosen by.
    """
    image_name = like.image["name"]
    kind, _ = JobKind.objects.get_or_create(
        image_name=image_name,
        job_type=like.job_type,
        credit_rate_micro=like.credit_rate_micro,
        defaults={"closed_until": lambda: closed_until_of(image_name=image_name)},  # type: ignore[misc]  # called where a row is made
    )
    replica = Replica(
        tier=like.tier,
        priority=like.priority,
        cpus=descriptor.cpus,
        memory_bytes=descriptor.memory_bytes,
        disk_bytes=descriptor.disk_bytes,
        gpus=descriptor.gpus,
        gpu_memory_bytes=descriptor.gpu_memory_bytes,
        kind=kind,
    )
    # A microsecond apart: the queue gives out what came first.
    at = timezone.now()
    of_jobs = [job_id for job_id in job_ids for _ in range(count)]
    rows_insert(
        replica,
        [
            {"id": uuid4(), "job_id": job_id, "created_at": (at + timedelta(microseconds=number)).isoformat()}
            for number, job_id in enumerate(of_jobs)
        ],
    )
    transaction.on_commit(partial(exchanges_wake, [like.tier]))


def replicas_queue_again(*, like: Sequence[Replica]) -> list[Replica]:
    """Queues one replica for each of these, of the same job with the same needs, and wakes waiting exchanges after the commit."""
    if not like:
        return []
    names = ("job_id", "tier", "priority", "cpus", "memory_bytes", "disk_bytes", "gpus", "gpu_memory_bytes", "kind_id")
    replicas = Replica.objects.bulk_create(Replica(**{name: getattr(one, name) for name in names}) for one in like)
    transaction.on_commit(partial(exchanges_wake, {one.tier for one in like}))
    return replicas
