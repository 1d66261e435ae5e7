"""Archives of outputs. SIGNATURES FIRST; the body follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from workers.protocol.errors import ProtocolError, VerificationError
from workers.protocol.messages import Manifest, ManifestFile


class OutputRefusedError(ProtocolError):
    """Host side: /outputs holds something that no archive may hold. `reason` e.g. symlink, hard_link, too_large. -> output_refused"""

    reason: str


class ArchiveRefusedError(VerificationError):
    code = "archive_refused"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    content_bytes: int = 16 * 2**30
    files: int = 10_000


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    digest: str
    size_bytes: int
    manifest: Manifest
    result_digest: str


def archive_write(folder: Path, out: BinaryIO, *, limits: ArchiveLimits = ArchiveLimits()) -> ArchiveInfo:
    """Raises OutputRefusedError; OSError from reading or writing passes through."""


class ArchiveReader:
    """`for file in ArchiveReader(stream): file.path, file.size_bytes, file.read(n)`; `.info` after the last one."""

    def __init__(self, stream: BinaryIO, *, limits: ArchiveLimits = ArchiveLimits()) -> None: ...
    def __iter__(self) -> Iterator[ArchiveMember]: ...
    @property
    def info(self) -> ArchiveInfo: ...


class ArchiveMember:
    path: str
    size_bytes: int
    def read(self, size: int = -1) -> bytes: ...


def archive_check(stream: BinaryIO, *, limits: ArchiveLimits = ArchiveLimits()) -> ArchiveInfo:
    """Read to the end, believe nothing. Raises ArchiveRefusedError. Compare .digest/.result_digest with the receipt's yourself."""
