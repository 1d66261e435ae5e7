"""Finding files in an archive without reading it whole. Pure but for the stream.

The archive was read to its end and checked when it was verified (workers/protocol/archives.py has its form). Here its headers are read
again, one jump a file, and its manifest last; a file that is read whole is checked against its digest there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydantic import ValidationError

from workers.protocol.canonical import json_parse
from workers.protocol.digests import digest_of
from workers.protocol.errors import ArchiveRefusedError, VerificationError
from workers.protocol.messages.receipt import Manifest, ManifestFile
from workers.protocol.tar_headers import (
    MANIFEST_NAME,
    OUTPUTS_PREFIX,
    ArchiveLimits,
    HeaderMalformedError,
    header_read,
    padding_bytes,
)

_MANIFEST_BYTES_MAX: Final = 32 * 2**20
"""Of 10,000 files with the longest paths it has 16 MiB."""


@dataclass(frozen=True)
class IndexedFile:
    """A file and where its bytes begin."""

    path: str
    digest: str
    size_bytes: int
    offset_bytes: int


class ArchiveIndex:
    """The files of the archive in `stream`, a seekable one that stays the caller's. Raises ArchiveRefusedError."""

    def __init__(self, stream: BinaryIO, *, limits: ArchiveLimits | None = None) -> None:
        self._stream = stream
        self._files_max = (limits or ArchiveLimits()).files
        found, manifest = self._walk()
        if [(each.path, each.size_bytes) for each in manifest.files] != [(path, size_bytes) for path, size_bytes, _ in found]:
            raise ArchiveRefusedError("The stored archive is damaged: its manifest lists other files than it holds.")
        self.files = tuple(_indexed(listed, offset) for listed, (_, _, offset) in zip(manifest.files, found, strict=True))
        self._by_path = {file.path: file for file in self.files}

    def find(self, path: str) -> IndexedFile | None:
        return self._by_path.get(path)

    def read(self, file: IndexedFile, *, limit_bytes: int) -> bytes:
        """The beginning of the file, at most `limit_bytes`; checked by its digest when that is all of it. Raises ArchiveRefusedError."""
        self._stream.seek(file.offset_bytes)
        data = self._take(min(file.size_bytes, limit_bytes))
        if len(data) == file.size_bytes and digest_of(data) != file.digest:
            raise ArchiveRefusedError(f"The stored archive is damaged: {file.path[:100]!r} has another digest than its manifest says.")
        return data

    def _walk(self) -> tuple[list[tuple[str, int, int]], Manifest]:
        """(path, size and offset of each file, the manifest)."""
        self._stream.seek(0)
        found: list[tuple[str, int, int]] = []
        while True:
            try:
                name, size_bytes = header_read(self._take)
            except HeaderMalformedError as error:
                raise ArchiveRefusedError(f"The stored archive is damaged: expected a file's header, found {error}.") from error
            if name == MANIFEST_NAME:
                return found, self._manifest(size_bytes)
            if not name.startswith(OUTPUTS_PREFIX) or len(found) >= self._files_max:
                raise ArchiveRefusedError(f"The stored archive is damaged: expected at most {self._files_max} files below 'outputs/'.")
            found.append((name.removeprefix(OUTPUTS_PREFIX), size_bytes, self._stream.tell()))
            self._stream.seek(size_bytes + padding_bytes(size_bytes), io.SEEK_CUR)

    def _manifest(self, size_bytes: int) -> Manifest:
        if size_bytes > _MANIFEST_BYTES_MAX:
            raise ArchiveRefusedError(f"The stored archive is damaged: its manifest has {size_bytes} bytes.")
        try:
            return Manifest.model_validate(json_parse(self._take(size_bytes), limit_bytes=_MANIFEST_BYTES_MAX))
        except ArchiveRefusedError:
            raise
        except (VerificationError, ValidationError) as error:
            raise ArchiveRefusedError("The stored archive is damaged: expected a manifest of version 1.") from error

    def _take(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._stream.read(count - len(parts))
            if not part:
                raise ArchiveRefusedError(f"The stored archive is damaged: it ends {count - len(parts)} bytes too early.")
            parts += part
        return bytes(parts)


def _indexed(listed: ManifestFile, offset_bytes: int) -> IndexedFile:
    return IndexedFile(listed.path, listed.digest, listed.size_bytes, offset_bytes)
