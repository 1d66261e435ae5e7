"""Queued jobs for tests of the gateway, written straight into the tables: submission has its own tests."""

from __future__ import annotations

import io
import itertools
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from jobs.blobs import blob_write
from jobs.models import Job, JobInput
from jobs.services.replicas import replicas_queue
from people.models import User
from tests.factories.people import researcher_make

_numbers = itertools.count(1)


def queued_job(owner: User | None = None, *, copies: int = 1, inputs: dict[str, bytes] | None = None, **fields: Any) -> Job:
    """A queued job with `copies` replicas. `descriptor` parts and columns of Job may be given."""
    descriptor = {
        "schema_version": "1.0",
        "job_id": f"job-{next(_numbers)}",
        "type": "test",
        "docker_image": "example/test:1",
        "estimated_flops": 1e12,
        "limits": {"cpus": 1, "memory_mb": 1024, "disk_mb": 1024, "output_mb": 100, "wall_seconds": 100},
        **fields.pop("descriptor", {}),
    }
    values: dict[str, Any] = {
        "label": descriptor["job_id"],
        "job_type": "test",
        "descriptor": descriptor,
        "descriptor_digest": "sha256:" + "0" * 64,
        "image": {"name": "example/test:1", "image_id": "sha256:" + "1" * 64},
        "tier": "cpu",
        "copies": copies,
        "quorum": copies,
        "replicas_max": copies + 2,
        "estimated_flops": 1e12,
        "credit_rate_micro": 1_000_000,
        "queue_deadline_at": timezone.now() + timedelta(days=1),
    }
    with transaction.atomic():
        job = Job.objects.create(owner=owner or researcher_make(), **{**values, **fields})
        for path, data in (inputs or {}).items():
            JobInput.objects.create(job=job, path=path, blob=blob_write(io.BytesIO(data)))
        replicas_queue(job=job, count=copies)
    return job
