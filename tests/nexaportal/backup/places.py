"""A portal with something to lose, and its backups."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from jobs.blobs import blob_store
from jobs.models import Job
from jobs.services.settlement import job_settle
from ledger import coordinator_key
from ledger.checkpoints import checkpoint_publish
from nexaportal.backup.making import backup_make
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

LARGE = {"result.bin": bytes(range(256)) * 400}


def caches_clear() -> None:
    blob_store.cache_clear()
    coordinator_key.coordinator_private_key.cache_clear()
    coordinator_key.coordinator_public_key.cache_clear()


def job_paid(files: Mapping[str, bytes] = LARGE) -> Job:
    """A job with a large result, accepted, paid and in the log."""
    job = job_make()
    replica_report(job, files=files)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    checkpoint_publish()
    return Job.objects.get(pk=job.pk)


def make(tmp_path: Path, *, seconds: int = 0) -> Path:
    return backup_make(root=tmp_path / "backups", now=timezone.now() + timedelta(seconds=seconds), report=lambda _: None)
