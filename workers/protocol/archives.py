"""Archives of outputs: the writer that runs on a host, and the reader that believes nothing.

An archive is an uncompressed tar with one byte form for one set of files:

1. Members are `outputs/<path>`, in ascending order of the bytes of the path, then `manifest.json`; then two zero blocks, then the end.
2. Only regular files; directories exist through their files, so an empty one is lost. Mode 0644, owner 0, time 0, no names of owners.
3. A pax header (POSIX.1-2001) stands before a member exactly when ustar cannot say its path (over 100 bytes, not ASCII) or size (8 GiB).
4. Paths are those of `messages.base.OutputPath`; no two are equal after normalisation and case folding, nor is one the folder of another.
5. `manifest.json` is the canonical JSON of `messages.receipt.Manifest`; its digest is the result digest.

Hence equal files give equal archives and digests on any host at any time. The headers are made by `tar_headers`, not `tarfile`, whose
bytes changed between Python versions; the reader makes each header again and compares, so there is nothing in a header for it to misread.
Both sides hold one chunk and the manifest in memory, nothing that grows with the size of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from pydantic import TypeAdapter, ValidationError

from workers.protocol.archive_writing import OutputRefusedError, archive_write
from workers.protocol.canonical import json_parse
from workers.protocol.digests import DIGEST_PREFIX, digest_of
from workers.protocol.errors import ArchiveRefusedError, VerificationError
from workers.protocol.messages.base import OutputPath
from workers.protocol.messages.receipt import Manifest, ManifestFile
from workers.protocol.tar_headers import (
    CHUNK_BYTES,
    END_OF_ARCHIVE,
    MANIFEST_NAME,
    OUTPUTS_PREFIX,
    ArchiveInfo,
    ArchiveLimits,
    HeaderMalformedError,
    PathBook,
    PathCollisionError,
    header_read,
    manifest_encode,
    padding_bytes,
)

__all__ = [
    "ArchiveInfo",
    "ArchiveLimits",
    "ArchiveMember",
    "ArchiveReader",
    "ArchiveRefusedError",
    "OutputRefusedError",
    "archive_check",
    "archive_write",
]

_PATH: Final = TypeAdapter(OutputPath)
_DEFAULT_LIMITS: Final = ArchiveLimits()


class ArchiveMember:
    """One file of an archive that is being read; gone when the reader goes on. Made by ArchiveReader only."""

    def __init__(self, reader: ArchiveReader, path: str, size_bytes: int, offset_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.offset_bytes = offset_bytes
        """Where its bytes begin, from where the reader began: they lie there in one piece."""
        self._reader = reader
        self._left = size_bytes
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file, at most `size` and at most a chunk; empty at its end. Raises ArchiveRefusedError when cut short."""
        wanted = min(self._left, CHUNK_BYTES if size < 0 else min(size, CHUNK_BYTES))
        data = self._reader._take(wanted)
        self._left -= len(data)
        self._sha256.update(data)
        return data

    def _finish(self) -> ManifestFile:
        while self._left:
            self.read()
        return ManifestFile(path=self.path, digest=DIGEST_PREFIX + self._sha256.hexdigest(), size_bytes=self.size_bytes)


class ArchiveReader:
    """Iterates over the files of an archive while reading `stream` once, from its present position to its end.

    What a member gives is not to be believed before the iteration has ended without ArchiveRefusedError: only then was the manifest seen.
    `info` raises RuntimeError before that. Does not compare with a receipt: the caller does, by `info.digest` and `info.result_digest`.
    """

    def __init__(self, stream: BinaryIO, *, limits: ArchiveLimits = _DEFAULT_LIMITS) -> None:
        self._stream = stream
        self._limits = limits
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._info: ArchiveInfo | None = None

    @property
    def info(self) -> ArchiveInfo:
        if self._info is None:
            raise RuntimeError("An archive is known only after it was read to its end; iterate over the reader first.")
        return self._info

    def __iter__(self) -> Iterator[ArchiveMember]:
        files: list[ManifestFile] = []
        book = PathBook()
        content_bytes = 0
        while True:
            name, size_bytes = self._header()
            if name == MANIFEST_NAME:
                break
            if not name.startswith(OUTPUTS_PREFIX):
                raise ArchiveRefusedError(f"Expected a member 'outputs/…' or 'manifest.json'; found {name[:100]!r}.")
            if len(files) >= self._limits.files:
                raise ArchiveRefusedError(f"Expected at most {self._limits.files} files; found more.")
            content_bytes += size_bytes
            if content_bytes > self._limits.content_bytes:
                raise ArchiveRefusedError(f"Expected at most {self._limits.content_bytes} bytes of files; found more.")
            member = ArchiveMember(self, self._path(name.removeprefix(OUTPUTS_PREFIX), book), size_bytes, self._size_bytes)
            yield member
            files.append(member._finish())
            self._padding(size_bytes)
        self._info = self._end(files, size_bytes)

    def _path(self, text: str, book: PathBook) -> str:
        try:
            path = _PATH.validate_python(text)
            book.add(path)
        except ValidationError as error:
            raise ArchiveRefusedError(f"Expected a relative path without '.' or '..'; found {text[:100]!r}.") from error
        except PathCollisionError as error:
            raise ArchiveRefusedError(str(error)) from error
        return path

    def _end(self, files: list[ManifestFile], manifest_bytes: int) -> ArchiveInfo:
        seen = Manifest(files=tuple(files))
        expected = manifest_encode(seen)
        limit_bytes = len(expected) + 4096
        if manifest_bytes > limit_bytes:
            raise ArchiveRefusedError(f"The manifest of these {len(files)} files has {len(expected)} bytes; found {manifest_bytes}.")
        found = bytearray()
        while len(found) < manifest_bytes:
            found += self._take(min(CHUNK_BYTES, manifest_bytes - len(found)))
        if found != expected:
            raise ArchiveRefusedError(_manifest_difference(seen, bytes(found)))
        self._padding(manifest_bytes)
        if self._take(len(END_OF_ARCHIVE)) != END_OF_ARCHIVE:
            raise ArchiveRefusedError("Expected two zero blocks after manifest.json; found something else.")
        if self._stream.read(1):
            raise ArchiveRefusedError("Expected the end after two zero blocks; found more bytes.")
        return ArchiveInfo(
            digest=DIGEST_PREFIX + self._sha256.hexdigest(),
            size_bytes=self._size_bytes,
            manifest=seen,
            result_digest=digest_of(expected),
        )

    def _header(self) -> tuple[str, int]:
        """Name and size of the next member, after making its header again and comparing all of its bytes."""
        try:
            return header_read(self._take)
        except HeaderMalformedError as error:
            raise ArchiveRefusedError(f"Expected the canonical header of a regular file; found {error}.") from error

    def _padding(self, size_bytes: int) -> None:
        if any(self._take(padding_bytes(size_bytes))):
            raise ArchiveRefusedError("Expected zeros between the end of a file and the next block; found other bytes.")

    def _take(self, count: int) -> bytes:
        """Exactly `count` bytes, however short the stream's own reads are."""
        parts = bytearray()
        while len(parts) < count:
            part = self._stream.read(count - len(parts))
            if not part:
                raise ArchiveRefusedError(
                    f"The archive ends after {self._size_bytes + len(parts)} bytes, before manifest.json and two zero blocks."
                )
            parts += part
        self._sha256.update(parts)
        self._size_bytes += count
        return bytes(parts)


def archive_check(stream: BinaryIO, *, limits: ArchiveLimits = _DEFAULT_LIMITS) -> ArchiveInfo:
    """Read an archive to its end and check all of it. Raises ArchiveRefusedError; OSError of the stream passes through."""
    reader = ArchiveReader(stream, limits=limits)
    for _ in reader:
        pass
    return reader.info


def _manifest_difference(seen: Manifest, found: bytes) -> str:
    """Why the manifest found is not that of the files seen, for whoever has to repair the writer."""
    try:
        claimed = Manifest.model_validate(json_parse(found, limit_bytes=len(found)))
    except (VerificationError, ValidationError):
        return "Expected a manifest of version 1 in canonical JSON; manifest.json is something else."
    if len(claimed.files) != len(seen.files):
        return f"The manifest lists {len(claimed.files)} files; the archive holds {len(seen.files)}."
    for listed, held in zip(claimed.files, seen.files, strict=True):
        if listed != held:
            return f"The manifest lists {listed.path!r} with {listed.size_bytes} bytes; the archive, {held.path!r} with {held.size_bytes}."
    return "The manifest lists the right files, but is not in canonical JSON."
