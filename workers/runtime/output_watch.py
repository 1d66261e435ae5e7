"""How much a running container has written to its outputs.

1. Nothing there is followed: folders are opened relative to their parent's descriptor with O_NOFOLLOW, files are not opened at all.
2. A file whose name was removed takes disk for as long as a process holds it open or mapped: such files are found through the container's
   processes, where the host may look at them (root sees all; a host that is not root sees open ones, and in another machine none).
3. Looks come close together, since space can be reserved faster than it can be written, but take no more than `_LOOK_SHARE` of the time.
4. A late look may find two limits passed. The one that was passed by more times its size is named: as outputs grow, it was passed first.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.protocol.messages.order import Limits
from workers.protocol.messages.receipt import Failure, FailureCode

ENTRIES_MAX: Final = 20_000
"""Files and folders that outputs may hold while a container runs; an archive takes half as many files."""

DEPTH_MAX: Final = 128
"""Folders in folders: no path of an archive has more parts."""

_LOOK_SHARE: Final = 0.02
_PAUSE_SECONDS: Final = (0.02, 1.0)
_HIDING: Final = frozenset({errno.EACCES, errno.EPERM})
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PROC: Final = Path("/proc")


@dataclass(slots=True)
class FolderSize:
    """`content_bytes` as files claim (a sparse file claims much), `allocated_bytes` as the disk holds.

    `hidden`: some of it could not be measured, since it was nested too deep or closed to this user.
    """

    content_bytes: int = 0
    allocated_bytes: int = 0
    entries: int = 0
    hidden: bool = False


def outputs_measure(folder: Path, pids: Iterable[int]) -> FolderSize:
    """`folder_measure`, with what files without a name take, of those that the processes `pids` hold."""
    size = folder_measure(folder)
    size.allocated_bytes += unnamed_bytes(pids, device=folder.stat().st_dev)
    return size


def folder_measure(folder: Path, *, entries_max: int = ENTRIES_MAX) -> FolderSize:
    """Sizes under `folder`, stopping once there are more than `entries_max` entries. What vanishes meanwhile is left out.

    Raises OSError for a disk that fails.
    """
    size = FolderSize()
    _measure(str(folder), None, DEPTH_MAX, entries_max, size)
    return size


def _measure(name: str, parent: int | None, depth: int, entries_max: int, size: FolderSize) -> None:
    try:
        folder = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        try:
            inner = _entries_measure(folder, entries_max, size)
            if inner and not depth:
                size.hidden = True
                return
            for each in inner:
                _measure(each, folder, depth - 1, entries_max, size)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _HIDING:
            size.hidden = True
        elif error.errno not in _VANISHED:
            raise


def _entries_measure(folder: int, entries_max: int, size: FolderSize) -> list[str]:
    """Add what is in one open folder; the names of its folders."""
    inner: list[str] = []
    with os.scandir(folder) as found:
        for entry in found:
            if size.entries > entries_max:
                return []
            size.entries += 1
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            size.allocated_bytes += status.st_blocks * 512
            if stat.S_ISREG(status.st_mode):
                size.content_bytes += status.st_size
            elif stat.S_ISDIR(status.st_mode):
                inner.append(entry.name)
    return inner


def unnamed_bytes(pids: Iterable[int], *, device: int, proc: Path = _PROC) -> int:
    """What files of `device` that have no name any more take of the disk, of those that `pids` hold open or mapped.

    The links in these folders are the kernel's own and lead to the file itself: asking for its status opens nothing and walks no path.
    """
    found: dict[int, int] = {}
    for pid in pids:
        for folder in ("fd", "map_files"):
            with suppress(OSError), os.scandir(proc / str(pid) / folder) as links:
                for link in links:
                    with suppress(OSError):
                        status = link.stat()
                        if not status.st_nlink and status.st_dev == device and stat.S_ISREG(status.st_mode):
                            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def look_pause_seconds(look_seconds: float) -> float:
    """How long to wait after a look that took `look_seconds`."""
    shortest, longest = _PAUSE_SECONDS
    return min(longest, max(shortest, look_seconds / _LOOK_SHARE))


def excess_of(size: FolderSize, limits: Limits) -> Failure | None:
    """The failure that outputs of this size are, if any."""
    is_disk_first = size.allocated_bytes * limits.output_bytes > size.content_bytes * limits.disk_bytes
    if size.content_bytes > limits.output_bytes and not (size.allocated_bytes > limits.disk_bytes and is_disk_first):
        return Failure(
            code=FailureCode.LIMIT_OUTPUT,
            message=f"The outputs may hold {limits.output_bytes} bytes; they hold {size.content_bytes} or more.",
        )
    if size.allocated_bytes > limits.disk_bytes:
        return Failure(
            code=FailureCode.LIMIT_DISK,
            message=f"The outputs may take {limits.disk_bytes} bytes of disk; they take {size.allocated_bytes}.",
        )
    if size.entries > ENTRIES_MAX:
        return Failure(code=FailureCode.LIMIT_DISK, message=f"The outputs may hold {ENTRIES_MAX} files and folders; they hold more.")
    if size.hidden:
        # Whatever is in there would count against no limit.
        message = "The outputs hold folders that can't be measured: nested too deep, or closed to the host's user."
        return Failure(code=FailureCode.LIMIT_DISK, message=message)
    return None
