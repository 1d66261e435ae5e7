"""Result bundles."""

from __future__ import annotations

import contextlib

from jobs.evidence.bundles import bundle_of
from jobs.models import Job


def bundle_bytes(job: Job) -> bytes:
    """The bundle of a completed job, whole, and as long as it was announced."""
    with contextlib.closing(bundle_of(job=job)) as bundle:
        data = b"".join(bundle.chunks())
        assert len(data) == bundle.size_bytes
    return data
