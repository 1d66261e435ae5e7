"""From stored bytes to a child: in the row, few, many, from a storage elsewhere, away; and each archive read once however many compare."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from django.core.files.storage import InMemoryStorage, default_storage

from jobs import blobs
from jobs.checking import reading
from jobs.checking.children import ChildServer, outcomes
from jobs.checking.documents import NO_BLOB, BlobDocument, Finding, JobDocument, ReplicaDocument
from jobs.checking.pairs import JobCheck
from jobs.checking.pieces import JobPieces
from jobs.checking.reading import INLINE_BYTES_MAX, jobs_read
from jobs.checking.warming import samples
from jobs.models import Blob
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import archive_make, replica_report

TWO = b"""{"schema_version": "1.0", "job_id": "x", "type": "x", "docker_image": "x:1", "estimated_flops": 1.0, "tolerance": 0.1,
"verification": {"method": "numeric", "copies": 2, "quorum": 2}}"""


@pytest.mark.django_db
def test_bytes_in_the_row_are_read_from_there() -> None:
    replica = replica_report(job_make(), {"only": os.urandom(8)})
    with blobs.blob_open(str(replica.receipt.archive_id)) as file:
        Blob.objects.filter(pk=replica.receipt.archive_id).update(data=file.read())
    digest_hex = str(replica.receipt.archive_id).removeprefix("sha256:")
    default_storage.delete(f"sha256/{digest_hex[:2]}/{digest_hex}")
    job_check(job_id=replica.job_id)
    assert set(replica.evidence.values_list("passed", flat=True)) == {True}


@pytest.mark.django_db
def test_many_bytes_reach_the_child_as_an_open_file() -> None:
    replica = replica_report(job_make(), {"large": os.urandom(INLINE_BYTES_MAX + 1)})
    (job,) = jobs_read([replica.job_id])
    document = job.document_open()
    assert document.replicas[0].archive.data is None
    os.close(document.replicas[0].archive.descriptor or 0)
    job_check(job_id=replica.job_id)
    assert set(replica.evidence.values_list("passed", flat=True)) == {True}


@pytest.mark.django_db
@pytest.mark.parametrize("size_bytes", [5, INLINE_BYTES_MAX + 1])
def test_storage_whose_files_have_no_descriptor_is_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size_bytes: int
) -> None:
    replica = replica_report(job_make(), {"file": os.urandom(size_bytes)})
    store = blobs.BlobStore(InMemoryStorage(), tmp_path)
    for digest in (replica.receipt.archive_id, replica.receipt.log_id):
        with blobs.blob_open(str(digest)) as file:
            store.write(file)
    Blob.objects.update(data=None)
    monkeypatch.setattr(reading, "blob_store", lambda: store)
    job_check(job_id=replica.job_id)
    assert set(replica.evidence.values_list("passed", flat=True)) == {True}


@dataclass(frozen=True)
class Counted(BlobDocument):
    """Counts how often it is read from its beginning to its end."""

    def open(self) -> BinaryIO:
        return CountedFile(self.data or b"")


class CountedFile(io.BytesIO):
    reads: int = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() == len(self.getbuffer()) and not data:
            CountedFile.reads += 1
        return data


def test_each_archive_is_read_once_however_many_are_compared() -> None:
    archives = [archive_make({"e.csv": b"x\n%d.0\n" % n, "f.csv": b"x\n1\n"})[0] for n in (100, 101, 102, 103)]
    replicas = [
        ReplicaDocument(str(n), "", "", b"", b"", Counted("", len(archive), data=archive), NO_BLOB, passed=True)
        for n, archive in enumerate(archives)
    ]
    document = JobDocument(TWO, replicas, [(one, other) for one in range(4) for other in range(one + 1, 4)])
    check = JobCheck(document)
    CountedFile.reads = 0
    found = [outcome for piece in document.pieces() for outcome in check.outcomes(piece)]
    assert [(one.passed, one.check_name) for one in found if isinstance(one, Finding)] == [(True, "comparison")] * 6
    assert CountedFile.reads == 4


def test_pair_is_compared_by_another_child_than_made_their_own_checks() -> None:
    archive = archive_make({"e.csv": b"x\n100.0\n"})[0]
    replicas = [ReplicaDocument(name, "", "", b"", b"", BlobDocument("", len(archive), data=archive), NO_BLOB) for name in "ab"]
    document = JobDocument(TWO, replicas, [(0, 1)])
    (found,) = JobCheck(document).outcomes(document.pieces()[-1])
    assert isinstance(found, Finding)
    assert (found.check_name, found.passed) == ("comparison", True)


@dataclass
class Pair:
    document: JobDocument

    def __post_init__(self) -> None:
        self.pieces = JobPieces(self.document)

    def document_open(self) -> JobDocument:
        return self.document


@pytest.fixture(scope="module")
def server() -> Iterator[ChildServer]:
    made = ChildServer(memory_bytes=2**30)
    yield made
    made.close()


@pytest.mark.parametrize("ending", sorted(samples()))
def test_files_of_each_format_are_compared_in_a_child_that_can_load_nothing_more(server: ChildServer, ending: str) -> None:
    for before, cut in ((b"", 0), (b"", 2), (b"\xff\0", 0)):
        replicas = []
        for name, data in zip("ab", samples()[ending], strict=True):
            archive = archive_make({f"x.{ending}": before + data[: len(data) - cut]})[0]
            blob = BlobDocument("", len(archive), data=archive)
            replicas.append(ReplicaDocument(name, "", "", b"", b"", blob, NO_BLOB, passed=True))
        ((_, found),) = outcomes(server, [Pair(JobDocument(TWO, replicas, [(0, 1)]))])
        assert isinstance(found[0], Finding), found
