"""Replicas come into being here: at submission, as substitutes, and when verification asks for more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.db import transaction

from jobs.descriptor import Descriptor
from jobs.models import Job, JobKind, Replica
from jobs.nudges import exchanges_wake
from jobs.services.breakers import closed_until_of


def replicas_queue(*, job: Job, count: int) -> list[Replica]:
    """Queues `count` replicas with what the job's descriptor needs, and wakes waiting exchanges after the commit."""
    return replicas_queue_all(jobs=[job], count=count, descriptor=Descriptor.model_validate(job.descriptor))


def replicas_queue_all(*, jobs: Sequence[Job], count: int, descriptor: Descriptor) -> list[Replica]:
    """Queues `count` replicas of each of these jobs, which differ in nothing that a host is chosen by: `descriptor` is any of theirs."""
    first = jobs[0]
    image_name = first.image["name"]
    kind, _ = JobKind.objects.get_or_create(
        image_name=image_name,
        job_type=first.job_type,
        credit_rate_micro=first.credit_rate_micro,
        defaults={"closed_until": lambda: closed_until_of(image_name=image_name)},
    )
    needs = {
        "tier": first.tier,
        "priority": first.priority,
        "cpus": descriptor.cpus,
        "memory_bytes": descriptor.memory_bytes,
        "disk_bytes": descriptor.disk_bytes,
        "gpus": descriptor.gpus,
        "gpu_memory_bytes": descriptor.gpu_memory_bytes,
        "kind": kind,
    }
    replicas = Replica.objects.bulk_create([Replica(job=job, **needs) for job in jobs for _ in range(count)])
    transaction.on_commit(partial(exchanges_wake, [first.tier]))
    return replicas


def replicas_queue_again(*, like: Sequence[Replica]) -> list[Replica]:
    """Queues one replica for each of these, of the same job with the same needs, and wakes waiting exchanges after the commit."""
    if not like:
        return []
    names = ("job_id", "tier", "priority", "cpus", "memory_bytes", "disk_bytes", "gpus", "gpu_memory_bytes", "kind_id")
    replicas = Replica.objects.bulk_create(Replica(**{name: getattr(one, name) for name in names}) for one in like)
    transaction.on_commit(partial(exchanges_wake, {one.tier for one in like}))
    return replicas
