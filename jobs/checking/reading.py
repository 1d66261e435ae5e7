"""From the database to what a child is given: a few queries for many jobs, and each blob read or opened when its turn comes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from typing import BinaryIO, Final
from uuid import UUID

from django.db.models import TextField
from django.db.models.functions import Cast

from jobs.blobs import blob_store
from jobs.checking.documents import COMPARISON, NO_BLOB, OWN_CHECKS, BlobDocument, JobDocument, ReplicaDocument
from jobs.checking.pieces import JobPieces
from jobs.models import Evidence, Job, Replica
from jobs.states import ReplicaState
from workers.protocol.compute_log import LOG_BYTES_MAX

log = logging.getLogger(__name__)

JOBS_AT_ONCE: Final = 100
INLINE_BYTES_MAX: Final = 256 * 1024
"""A blob of up to so many bytes is sent to the child; of a larger one, the open file."""


@dataclass(frozen=True)
class StoredBlob:
    """A blob that a receipt names, as its row says. `data`: its bytes, where they are in the row."""

    digest: str | None
    size_bytes: int
    data: bytes | None


class JobToCheck:
    """A job with reported replicas of which some check has not been made. `received_at` by replica id."""

    def __init__(self, *, document: JobDocument, blobs: Sequence[tuple[StoredBlob, StoredBlob]], received_at: dict[str, datetime]) -> None:
        self.pieces = JobPieces(document)
        self.received_at = received_at
        self._document, self._blobs = document, blobs

    def document_open(self) -> JobDocument:
        """The document with archive and log of each replica. Whoever asks closes the files."""
        replicas = []
        for replica, (archive, compute_log) in zip(self._document.replicas, self._blobs, strict=True):
            read = replace(replica, archive=_blob_document(archive))
            if not replica.passed:
                read = replace(read, log=_blob_document(compute_log, limit_bytes=LOG_BYTES_MAX))
            replicas.append(read)
        return replace(self._document, replicas=replicas)


def jobs_read(job_ids: Sequence[UUID]) -> Iterator[JobToCheck]:
    """Those of the jobs that have something to check, a lot of them at a time, with three queries each."""
    for first in range(0, len(job_ids), JOBS_AT_ONCE):
        yield from _lot_read(job_ids[first : first + JOBS_AT_ONCE])


@dataclass(frozen=True)
class _Row:
    document: ReplicaDocument
    blobs: tuple[StoredBlob, StoredBlob]
    received_at: datetime


def _lot_read(job_ids: Sequence[UUID]) -> Iterator[JobToCheck]:
    rows = _rows_read(job_ids)
    own, compared = _evidence_read([row.document.replica_id for of_job in rows.values() for row in of_job])
    descriptors = Job.objects.filter(pk__in=rows).annotate(text=Cast("descriptor", TextField())).values_list("pk", "text")
    for job_id, descriptor in descriptors:
        checked = []
        for row in rows[job_id]:
            known = own[row.document.replica_id]
            if all(name in known for name in OWN_CHECKS):
                if all(known[name] for name in OWN_CHECKS):
                    checked.append(replace(row, document=replace(row.document, passed=True, envelope=b"")))
            else:
                checked.append(row)
        replicas = [row.document for row in checked]
        pairs = [
            (one, other)
            for one, other in combinations(range(len(replicas)), 2)
            if frozenset((replicas[one].replica_id, replicas[other].replica_id)) not in compared
        ]
        document = JobDocument(descriptor.encode("utf-8"), replicas, pairs)
        if document.pieces():
            received_at = {row.document.replica_id: row.received_at for row in checked}
            yield JobToCheck(document=document, blobs=[row.blobs for row in checked], received_at=received_at)


def _rows_read(job_ids: Sequence[UUID]) -> dict[UUID, list[_Row]]:
    """The reported replicas of each job, in the order in which their receipts came."""
    found: dict[UUID, list[_Row]] = defaultdict(list)
    reported = Replica.objects.filter(job__in=job_ids, state=ReplicaState.REPORTED, receipt__isnull=False)
    for row in reported.order_by("receipt__received_at", "pk").values_list(
        "job_id", "pk", "lease_id", "order_digest", "node_key__public_key", "receipt__envelope", "receipt__received_at",
        "receipt__archive_id", "receipt__archive__size_bytes", "receipt__archive__data",
        "receipt__log_id", "receipt__log__size_bytes", "receipt__log__data",
    ):  # fmt: skip
        job_id, replica_id, lease_id, order_digest, public_key, envelope, received_at = row[:7]
        blobs = (_stored(row[7], row[8], row[9]), _stored(row[10], row[11], row[12]))
        document = ReplicaDocument(
            replica_id=str(replica_id),
            lease_id=str(lease_id),
            order_digest=order_digest,
            public_key=bytes(public_key or b""),
            envelope=bytes(envelope),
            archive=replace(NO_BLOB, digest=blobs[0].digest, size_bytes=blobs[0].size_bytes),
            log=replace(NO_BLOB, digest=blobs[1].digest, size_bytes=blobs[1].size_bytes),
        )
        found[job_id].append(_Row(document, blobs, received_at))
    return found


def _stored(digest: str | None, size_bytes: int | None, data: bytes | memoryview | None) -> StoredBlob:
    return StoredBlob(digest, size_bytes or 0, None if data is None else bytes(data))


def _evidence_read(replica_ids: Sequence[str]) -> tuple[dict[str, dict[str, bool | None]], set[frozenset[str]]]:
    """(replica: {own check: passed}, compared pairs)."""
    own: dict[str, dict[str, bool | None]] = defaultdict(dict)
    compared: set[frozenset[str]] = set()
    of_these = Evidence.objects.filter(replica_id__in=[UUID(replica_id) for replica_id in replica_ids])
    rows = of_these.values_list("replica_id", "other_id", "check_name", "passed")
    for replica_id, other_id, check_name, passed in rows:
        if check_name == COMPARISON:
            compared.add(frozenset((str(replica_id), str(other_id))))
        else:
            own[str(replica_id)][check_name] = passed
    return own, compared


def _blob_document(stored: StoredBlob, *, limit_bytes: int | None = None) -> BlobDocument:
    """The blob's bytes if they are few, else its open file. Where neither can be had, it says so: the check that needs it is not made."""
    found = BlobDocument(stored.digest, stored.size_bytes, away="not needed")
    if stored.digest is None or (limit_bytes is not None and stored.size_bytes > limit_bytes):
        return found
    if stored.data is not None:
        return replace(found, data=stored.data)
    try:
        with blob_store().open(stored.digest) as file:
            if stored.size_bytes <= INLINE_BYTES_MAX and len(data := file.read(INLINE_BYTES_MAX + 1)) <= INLINE_BYTES_MAX:
                return replace(found, data=data)
            return replace(found, descriptor=_descriptor_of(file))
    except Exception as error:  # whatever a storage raises when it is away
        log.exception("the blob %s can't be opened", stored.digest)
        return replace(found, away=type(error).__name__)


def _descriptor_of(file: BinaryIO) -> int:
    """A descriptor of its own for the bytes of `file`; those of a storage elsewhere are copied to a nameless file here."""
    try:
        return os.dup(file.fileno())
    except OSError:  # it has none
        with tempfile.TemporaryFile() as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy, 1024 * 1024)
            copy.flush()
            return os.dup(copy.fileno())
