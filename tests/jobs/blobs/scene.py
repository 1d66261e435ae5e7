"""Blobs in the states that a collection meets, and a job with a result that is as old as a test likes."""

from __future__ import annotations

import io
import os
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from jobs.blobs import blob_open, blob_write
from jobs.blobs.collection import SHARDS, Collected, shard_collect
from jobs.models import Blob, Job
from workers.protocol.digests import digest_of, digest_parse

SMALL = b"in its row"
LARGE = bytes(range(256)) * 400
"""Beyond NEXA_BLOB_INLINE_BYTES."""


def written(data: bytes) -> Blob:
    """A blob that nothing refers to."""
    return blob_write(io.BytesIO(data))


def file_of(digest: str) -> Path:
    digest_hex = digest_parse(digest)
    return Path(settings.NEXA_BLOB_ROOT) / "sha256" / digest_hex[:2] / digest_hex


def aged(path: Path, *, days: float) -> None:
    """Makes a file look as if it had been written so long ago."""
    at = timezone.now().timestamp() - days * 86400
    os.utime(path, (at, at))


def read(data: bytes) -> bytes:
    with blob_open(digest_of(data)) as file:
        return file.read()


def collect(*, now: datetime | None = None, dry_run: bool = False) -> Collected:
    """One pass over all shards in which there is anything."""
    found = Collected()
    shards = {digest_parse(digest)[:2] for digest in Blob.objects.values_list("pk", flat=True)}
    shards.update(path.name for path in Path(settings.NEXA_BLOB_ROOT).glob("sha256/*"))
    assert shards <= set(SHARDS)
    for shard in sorted(shards):
        shard_collect(shard=shard, now=now or timezone.now(), dry_run=dry_run, into=found)
    return found


def marked(data: bytes, *, hours: float = 25) -> str:
    """The digest of a blob of these bytes that nothing has wanted for so long."""
    blob = written(data)
    Blob.objects.filter(pk=blob.pk).update(unwanted_since=timezone.now() - timedelta(hours=hours))
    return blob.digest


def concluded(job: Job, *, days_ago: float) -> None:
    """Moves the end of a job, and its receipts, into the past."""
    at = timezone.now() - timedelta(days=days_ago)
    Job.objects.filter(pk=job.pk).update(concluded_at=at)
    for replica in job.replicas.filter(receipt__isnull=False).select_related("receipt"):
        type(replica.receipt).objects.filter(pk=replica.receipt.pk).update(received_at=at)
