"""Writes the outputs of a container into an archive, trusting nothing that the container left behind.

Every folder and file is opened relative to the descriptor of its parent with O_NOFOLLOW, so no link is followed, even if one
appears meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import TypeAdapter, ValidationError

from workers.protocol.digests import DIGEST_PREFIX, digest_of
from workers.protocol.errors import ProtocolError
from workers.protocol.messages.base import OutputPath
from workers.protocol.messages.receipt import Manifest, ManifestFile
from workers.protocol.tar_headers import (
    CHUNK_BYTES,
    END_OF_ARCHIVE,
    MANIFEST_NAME,
    OUTPUTS_PREFIX,
    ArchiveInfo,
    ArchiveLimits,
    PathBook,
    PathCollisionError,
    header_encode,
    manifest_encode,
    padding_bytes,
)

_PATH: Final = TypeAdapter(OutputPath)
_DEFAULT_LIMITS: Final = ArchiveLimits()
_KINDS: Final = {
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class OutputRefusedError(ProtocolError):
    """The outputs hold what no archive may hold: the job's fault, `output_refused`.

    `reason` is one of symlink, hard_link, device, fifo, socket, name, collision, too_many, too_large, changed.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Hashed:
    """Writes through, and remembers digest and size."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self.sha256.update(data)
        self.size_bytes += len(data)


def archive_write(folder: Path, out: BinaryIO, *, limits: ArchiveLimits = _DEFAULT_LIMITS) -> ArchiveInfo:
    """Write the archive of all regular files under `folder` to `out`, in one pass, holding one chunk at a time.

    The container must have ended. Raises OutputRefusedError for what the container did; OSError of the host's disk passes through.
    """
    hashed = _Hashed(out)
    files: list[ManifestFile] = []
    book = PathBook()
    content_bytes = 0
    with _opened(folder, None, os.O_DIRECTORY) as root:
        for parent, name, path in _walk(root, "", [limits.files]):
            with _file_opened(parent, name, path) as descriptor:
                size_bytes = os.fstat(descriptor).st_size
                content_bytes += size_bytes
                if content_bytes > limits.content_bytes:
                    raise OutputRefusedError(
                        "too_large", f"Outputs may hold {limits.content_bytes} bytes; they hold more, at {path[:100]!r}."
                    )
                try:
                    book.add(path)
                except PathCollisionError as error:
                    raise OutputRefusedError("collision", str(error)) from error
                hashed.write(header_encode(OUTPUTS_PREFIX + path, size_bytes))
                digest = _content_copy(descriptor, size_bytes, hashed, path)
                files.append(ManifestFile(path=path, digest=digest, size_bytes=size_bytes))
    manifest = Manifest(files=tuple(files))
    encoded = manifest_encode(manifest)
    hashed.write(header_encode(MANIFEST_NAME, len(encoded)) + encoded + bytes(padding_bytes(len(encoded))) + END_OF_ARCHIVE)
    return ArchiveInfo(DIGEST_PREFIX + hashed.sha256.hexdigest(), hashed.size_bytes, manifest, digest_of(encoded))


def _walk(parent: int, prefix: str, entries_left: list[int]) -> Iterator[tuple[int, str, str]]:
    """Files under an open folder as (parent descriptor, name, path), ascending by the bytes of the whole path."""
    # A folder sorts as if its name ended in "/": that is the order of whole paths.
    entries: list[tuple[bytes, str, bool]] = []
    with os.scandir(parent) as found:
        for entry in found:
            entries_left[0] -= 1
            if entries_left[0] < 0:
                raise OutputRefusedError("too_many", "Outputs hold more files and folders than an archive may have.")
            is_folder = entry.is_dir(follow_symlinks=False)
            path = _path_check(prefix + entry.name)
            entries.append((path.encode("utf-8") + (b"/" if is_folder else b""), entry.name, is_folder))
    for _, name, is_folder in sorted(entries):
        path = prefix + name
        if not is_folder:
            yield parent, name, path
            continue
        with _opened(name, parent, os.O_DIRECTORY) as folder:
            yield from _walk(folder, path + "/", entries_left)


def _path_check(path: str) -> str:
    try:
        # A name that is not UTF-8 comes with surrogates, which pydantic refuses.
        return _PATH.validate_python(path)
    except ValidationError as error:
        raise OutputRefusedError(
            "name",
            f"Names of outputs are UTF-8 without control characters or backslashes, at most 255 long with folders; found {path[:100]!r}.",
        ) from error


@contextmanager
def _opened(name: str | Path, parent: int | None, flags: int) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _file_opened(parent: int, name: str, path: str) -> Iterator[int]:
    """A regular file with one name. Asked before opening too: opening a device or a fifo can act or block."""
    _kind_check(os.stat(name, dir_fd=parent, follow_symlinks=False), path)
    with _opened(name, parent, os.O_NONBLOCK) as descriptor:
        _kind_check(os.fstat(descriptor), path)
        yield descriptor


def _kind_check(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "device")
        raise OutputRefusedError(kind, f"Outputs must be regular files; {path[:100]!r} is a {kind}.")
    if status.st_nlink != 1:
        raise OutputRefusedError("hard_link", f"Outputs must have one name each; {path[:100]!r} has {status.st_nlink}.")


def _content_copy(descriptor: int, size_bytes: int, out: _Hashed, path: str) -> str:
    sha256 = hashlib.sha256()
    left = size_bytes
    while left and (data := os.read(descriptor, min(CHUNK_BYTES, left))):
        left -= len(data)
        sha256.update(data)
        out.write(data)
    if left or os.read(descriptor, 1):
        raise OutputRefusedError(
            "changed", f"{path[:100]!r} had {size_bytes} bytes and changed while it was read; is the container still running?"
        )
    out.write(bytes(padding_bytes(size_bytes)))
    return DIGEST_PREFIX + sha256.hexdigest()
