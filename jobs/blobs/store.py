"""The files of blobs: staged ones, which are still coming in, and kept ones, each under its digest. Knows no rows.

1. A kept file is written once, after its digest was checked, and never changes. Its name is its digest. Django's storage API keeps it.
2. Whoever keeps a file, and whoever removes one, holds the lock of its digest (locks.py) until its row says the same.
3. Staged bytes are files of a local folder that all web processes share, one for each upload, written at the offset that the database
   says. The database is the truth about the offset: bytes beyond it are leftovers of a request that failed, and are overwritten.
4. Bytes are hashed as they come in. The state of the hash is this process's memory, so it is only a saving: where it is missing or was
   taken at another offset, the staged file is read again. An upload whose bytes were refused is gone, and its id with it: else a second
   process could have staged other bytes under a hash that this one remembers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, ClassVar, Final, cast
from uuid import UUID

from django.core.files import File
from django.core.files.storage import Storage

from workers.protocol.digests import DIGEST_PREFIX, Readable, digest_of, digest_parse
from workers.protocol.problems import ProblemError

READ_BYTES: Final = 1024 * 1024
_HASHES_KEPT: Final = 256
_WRITE_PREFIX: Final = "write-"
_KEPT_FOLDER: Final = "sha256"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class BlobTooLargeError(ProblemError):
    """A stream held more bytes than it may."""

    code: ClassVar[str] = "blob_too_large"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "There are too many bytes"


class BlobDigestMismatchError(ProblemError):
    """The bytes are not those of the digest they were announced with; what was staged is gone."""

    code: ClassVar[str] = "upload_digest_mismatch"
    status: ClassVar[int] = 460
    title: ClassVar[str] = "Checksum mismatch"


class _StagedFile(File):  # type: ignore[type-arg]  # not generic at run time
    """Lets a file storage move the staged file into place instead of copying it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


@dataclass(frozen=True)
class WrittenFile:
    """A whole file that is on the disk and not yet kept."""

    path: Path
    digest: str
    size_bytes: int


class BlobStore:
    """Reads and writes bytes. Knows nothing of who may: that is for the services."""

    def __init__(self, storage: Storage, staging: Path) -> None:
        self._storage = storage
        self._staging = staging
        self._hashes: OrderedDict[UUID, tuple[int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def staged_append(self, upload_id: UUID, *, offset: int, data: bytes) -> None:
        """Stages `data` at `offset`. The caller holds the upload's row lock and stores the new offset.

        Raises BlobDigestMismatchError when what came before is not there: a sparse file would have zeros in its place.
        """
        path = self._staged_path(upload_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with open(descriptor, "r+b") as file:
            found_bytes = os.fstat(descriptor).st_size
            if found_bytes < offset:
                self.staged_discard(upload_id)
                raise BlobDigestMismatchError(
                    f"Expected {offset} bytes staged before this chunk; found {found_bytes}. Send them again, from offset 0."
                )
            file.seek(offset)
            file.write(data)
            file.truncate()
        self._hash_add(upload_id, offset, data)

    def staged_commit(self, upload_id: UUID, *, digest: str, size_bytes: int) -> None:
        """Keeps the staged bytes as the file of `digest`. Rule 2. Raises BlobDigestMismatchError, after which nothing is staged."""
        path = self._staged_path(upload_id)
        self._staged_check(upload_id, self._staged_digest(upload_id, size_bytes), digest, size_bytes)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self.keep(WrittenFile(path, digest, size_bytes))
        self.hash_drop(upload_id)

    def staged_take(self, upload_id: UUID, *, digest: str, size_bytes: int) -> bytes:
        """The staged bytes, which are staged no more. Raises BlobDigestMismatchError; then too nothing is staged."""
        data = self._staged_path(upload_id).read_bytes()[:size_bytes] if size_bytes else b""
        self._staged_check(upload_id, digest_of(data), digest, size_bytes)
        self.staged_discard(upload_id)
        return data

    def staged_discard(self, upload_id: UUID) -> None:
        """Forgets what was staged; nothing to forget is fine."""
        self.hash_drop(upload_id)
        self._staged_path(upload_id).unlink(missing_ok=True)

    def leftovers_remove(self, *, before: datetime) -> int:
        """Removes what `write` began and left, because its process was killed, if nobody has written to it since `before`."""
        removed = 0
        for path in self._old(f"{_WRITE_PREFIX}*", before):
            path.unlink(missing_ok=True)
            removed += 1
        return removed

    def staged_before(self, before: datetime) -> list[UUID]:
        """Uploads of which bytes are staged that nobody has added to since `before`."""
        return [UUID(path.name) for path in self._old("????????-*", before) if _UUID.fullmatch(path.name)]

    def _old(self, pattern: str, before: datetime) -> Iterator[Path]:
        for path in self._staging.glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # another sweep, or its writer, was quicker
                if path.stat().st_mtime < before.timestamp():
                    yield path

    def open(self, digest: str) -> BinaryIO:
        """The blob's bytes. Raises FileNotFoundError, DigestMalformedError."""
        return cast("BinaryIO", self._storage.open(self._name(digest), "rb"))

    def write(self, stream: Readable, *, limit_bytes: int | None = None) -> WrittenFile:
        """Writes what is left to read to a file, which the caller keeps. Raises BlobTooLargeError."""
        self._staging.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._staging, prefix=_WRITE_PREFIX, delete=False) as file:
            path = Path(file.name)
            try:
                digest, size_bytes = _copy(stream, file, limit_bytes)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink()
                raise
        return WrittenFile(path, digest, size_bytes)

    def keep(self, written: WrittenFile) -> None:
        """Moves a file to its place, unless the same bytes are there already. Rule 2."""
        name = self._name(written.digest)
        try:
            if not self._storage.exists(name):
                with written.path.open("rb") as opened:
                    saved = self._storage.save(name, _StagedFile(opened, name=str(written.path)))
                if saved != name:  # somebody else stored the same bytes meanwhile, and ours got another name
                    self._storage.delete(saved)
        finally:
            written.path.unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Removes a kept file; none to remove is fine. Rule 2."""
        self._storage.delete(self._name(digest))

    def has(self, digest: str) -> bool:
        """Whether the file of a blob is there."""
        return self._storage.exists(self._name(digest))

    def shard_digests(self, shard: str) -> list[str]:
        """Digests of the kept files that begin with these two hexadecimal digits, in their order."""
        try:
            _, names = self._storage.listdir(f"{_KEPT_FOLDER}/{shard}")
        except FileNotFoundError:
            return []
        return sorted(DIGEST_PREFIX + name for name in names if _HEX.fullmatch(name) and name.startswith(shard))

    def kept_at(self, digest: str) -> datetime:
        """When a kept file was written. Raises FileNotFoundError."""
        return self._storage.get_modified_time(self._name(digest))

    def _staged_check(self, upload_id: UUID, found: str, digest: str, size_bytes: int) -> None:
        if found != digest:
            self.staged_discard(upload_id)
            raise BlobDigestMismatchError(
                f"Expected {size_bytes} bytes with the digest {digest}; found {found}. Send them again, from offset 0."
            )

    def _staged_digest(self, upload_id: UUID, size_bytes: int) -> str:
        with self._lock:
            offset, sha256 = self._hashes.get(upload_id, (-1, None))
        if offset != size_bytes or sha256 is None:
            sha256 = hashlib.sha256()
            with self._staged_path(upload_id).open("rb") as file:
                for chunk in chunks_of(file, size_bytes):
                    sha256.update(chunk)
        return DIGEST_PREFIX + str(sha256.hexdigest())

    def _hash_add(self, upload_id: UUID, offset: int, data: bytes) -> None:
        with self._lock:
            known_offset, sha256 = self._hashes.pop(upload_id, (-1, None))
        if offset == 0:
            sha256 = hashlib.sha256()
        elif known_offset != offset:
            return
        sha256.update(data)
        with self._lock:
            self._hashes[upload_id] = (offset + len(data), sha256)
            while len(self._hashes) > _HASHES_KEPT:
                self._hashes.popitem(last=False)

    def hash_drop(self, upload_id: UUID) -> None:
        """Forgets the state of the hash. Whoever staged bytes and failed to store the offset must call this."""
        with self._lock:
            self._hashes.pop(upload_id, None)

    def _staged_path(self, upload_id: UUID) -> Path:
        return self._staging / str(upload_id)

    @staticmethod
    def _name(digest: str) -> str:
        digest_hex = digest_parse(digest)
        return f"{_KEPT_FOLDER}/{digest_hex[:2]}/{digest_hex}"


def chunks_of(file: Readable, size_bytes: int) -> Iterator[bytes]:
    """The next `size_bytes` bytes of `file`, or what there is of them, in pieces of at most READ_BYTES."""
    left = size_bytes
    while left > 0 and (chunk := file.read(min(READ_BYTES, left))):
        left -= len(chunk)
        yield chunk


def _copy(stream: Readable, file: IO[bytes], limit_bytes: int | None) -> tuple[str, int]:
    """Copies what is left to read; its digest and size."""
    sha256, size_bytes = hashlib.sha256(), 0
    while chunk := stream.read(READ_BYTES):
        size_bytes += len(chunk)
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise BlobTooLargeError(f"Expected at most {limit_bytes} bytes; the stream holds more.")
        sha256.update(chunk)
        file.write(chunk)
    return DIGEST_PREFIX + sha256.hexdigest(), size_bytes
