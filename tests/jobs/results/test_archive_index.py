"""Files are found by jumping from header to header, read up to a limit, and checked by their digests."""

from __future__ import annotations

import io

import pytest

from jobs.results.archive_index import ArchiveIndex
from tests.factories.receipts import archive_make
from tests.jobs.results.opened import opened
from workers.protocol.archives import ArchiveLimits, ArchiveReader
from workers.protocol.digests import digest_of
from workers.protocol.errors import ArchiveRefusedError

FILES = {"a.csv": b"t\n1\n", "deep/er/b.json": b"{}", "deep/é.bin": bytes(5000), "z": b""}


class CountedReads(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def test_files_are_those_that_the_whole_reader_finds() -> None:
    archive, _ = archive_make(FILES)
    places = {member.path: (member.size_bytes, member.offset_bytes) for member in ArchiveReader(io.BytesIO(archive))}
    index = ArchiveIndex(io.BytesIO(archive))
    assert {file.path: (file.size_bytes, file.offset_bytes) for file in index.files} == places
    assert {file.path: file.digest for file in index.files} == {path: digest_of(data) for path, data in FILES.items()}
    assert {file.path: index.read(file, limit_bytes=10**6) for file in index.files} == FILES


def test_no_more_is_read_than_headers_manifest_and_what_is_asked_for() -> None:
    archive, _ = archive_make({"large.bin": bytes(2_000_000), "small.txt": b"hello"})
    stream = CountedReads(archive)
    index = ArchiveIndex(stream)
    assert stream.bytes_read < 3000
    large = index.find("large.bin")
    assert large is not None
    assert len(index.read(large, limit_bytes=100)) == 100
    assert stream.bytes_read < 3100


def test_path_that_is_not_there_is_none() -> None:
    assert opened(FILES).find("../a.csv") is None


def test_changed_byte_of_a_file_is_seen_when_it_is_read_whole() -> None:
    archive, _ = archive_make({"a": b"content"})
    index = ArchiveIndex(io.BytesIO(archive.replace(b"content", b"contend")))
    [file] = index.files
    with pytest.raises(ArchiveRefusedError, match="another digest"):
        index.read(file, limit_bytes=100)


def test_archive_cut_short_or_of_too_many_files_is_refused() -> None:
    archive, _ = archive_make(FILES)
    with pytest.raises(ArchiveRefusedError, match="too early"):
        ArchiveIndex(io.BytesIO(archive[:4000]))
    with pytest.raises(ArchiveRefusedError, match="at most 3 files"):
        ArchiveIndex(io.BytesIO(archive), limits=ArchiveLimits(files=3))


def test_manifest_that_lists_other_files_is_refused() -> None:
    archive, _ = archive_make({"a": b"", "b": b""})
    with pytest.raises(ArchiveRefusedError, match="lists other files"):
        ArchiveIndex(io.BytesIO(archive[512:]))  # the first file is gone


def test_manifest_that_is_none_is_refused() -> None:
    archive, _ = archive_make({"a": b""})
    with pytest.raises(ArchiveRefusedError, match="expected a manifest"):
        ArchiveIndex(io.BytesIO(archive.replace(b'"manifest_version":1', b'"manifest_version":2')))
