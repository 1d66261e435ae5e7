"""Whose result may be seen, and where its bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from jobs.blobs import blob_open
from jobs.comparison.results import rules_of
from jobs.comparison.rules import FileRule
from jobs.descriptor import Descriptor
from jobs.descriptor.formats import format_of
from jobs.evidence.disclosure import is_result_shown
from jobs.models import Blob, Job, Receipt
from jobs.results.archive_index import ArchiveIndex
from jobs.states import JobState, ReplicaState
from people.models import User
from workers.protocol.errors import ArchiveRefusedError


def result_of(*, owner: User, job_id: UUID) -> tuple[Job, Receipt | None] | None:
    """The job if it is `owner`'s, with the receipt of its canonical result if there is one that may be shown, archive fetched along."""
    job = Job.objects.select_related("canonical_replica").filter(owner=owner, pk=job_id).first()
    if job is None:
        return None
    replica = job.canonical_replica
    if replica is None or not is_result_shown(job_state=JobState(job.state), state=ReplicaState(replica.state)):
        return job, None
    return job, Receipt.objects.filter(replica=replica, archive__isnull=False).select_related("archive").first()


@contextmanager
def archive_opened(blob: Blob) -> Iterator[ArchiveIndex]:
    """The archive's files, for as long as the block lasts. Raises ArchiveRefusedError, also where its bytes are gone."""
    try:
        stream = blob_open(blob)
    except FileNotFoundError as error:
        raise ArchiveRefusedError(
            "The stored archive is gone: its bytes are not in the blob store. The operator can restore them."
        ) from error
    with stream:
        yield ArchiveIndex(stream)


def rule_for(job: Job, path: str) -> FileRule:
    """How a file is read: as the job's descriptor says, else as its name does."""
    descriptor = Descriptor.model_validate(job.descriptor)
    named = [file.path for file in descriptor.verification.files]
    if path in named:
        rules, _ = rules_of(descriptor, ())
        return next((rule for rule in rules if rule.path == path), FileRule(path, format_of(path)))
    return FileRule(path, format_of(path))
