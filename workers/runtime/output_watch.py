"""How much a running container has written to its outputs.

1. Nothing there is followed: folders are opened relative to their parent's descriptor with O_NOFOLLOW, files are not opened at all.
2. A file whose name was removed takes disk for as long as a process holds it open or mapped: such files are found through the container's
   processes, where the host may look at them (root sees all; a host that is not root sees open ones, and in another machine none).
   A container decides how many there are to look through, so that has a bound too, and nothing else waits for it.
3. Looks come close together, since space can be reserved faster than it can be written, but take no more than `_LOOK_SHARE` of the time.
4. A late look may find two limits passed. The one that was passed by more times its size is named: as outputs grow, it was passed first.
5. Space can be held where nobody sees it, as by a descriptor on its way through a socket. So the disk itself is looked at: below its floor
   whatever runs is ended.
"""

from __future__ import annotations

import errno
import os
import stat
import time
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

LINKS_MAX: Final = 100_000
"""Descriptors and mappings that the processes of a container may have together: a second's look, and more than a hundred of them need."""

LINKS_SECONDS_MAX: Final = 10.0
"""Of a processor, that a look through them may take: a machine that is busy with other things is no fault of the container."""

_LOOK_SHARE: Final = 0.02
PAUSE_SECONDS_MIN: Final = 0.02
_PAUSE_SECONDS_MAX: Final = 1.0
_HIDING: Final = frozenset({errno.EACCES, errno.EPERM})
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PROC: Final = Path("/proc")


@dataclass(slots=True)
class FolderSize:
    """`content_bytes` as files claim (a sparse file claims much), `allocated_bytes` as the disk holds.

    `hidden`: some of it could not be measured, since it was nested too deep or closed to this user. `unseen`: so many descriptors and
    mappings were looked through for files without a name when their bound was reached; None: all.
    """

    content_bytes: int = 0
    allocated_bytes: int = 0
    entries: int = 0
    hidden: bool = False
    unseen: int | None = None


class LinksBeyondError(Exception):
    """The processes have more descriptors and mappings than are looked through; `links` were."""

    def __init__(self, links: int) -> None:
        super().__init__(f"{links} links were looked through, and there are more")
        self.links = links


def outputs_measure(folder: Path, pids: Iterable[int]) -> FolderSize:
    """`folder_measure`, with what files without a name take, of those that the processes `pids` hold."""
    size = folder_measure(folder)
    try:
        size.allocated_bytes += unnamed_bytes(pids, device=folder.stat().st_dev)
    except LinksBeyondError as error:
        size.unseen = error.links
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


def unnamed_bytes(
    pids: Iterable[int], *, device: int, proc: Path = _PROC, links_max: int = LINKS_MAX, seconds_max: float = LINKS_SECONDS_MAX
) -> int:
    """What files of `device` that have no name any more take of the disk, of those that `pids` hold open or mapped.

    The links in these folders are the kernel's own and lead to the file itself: asking for its status opens nothing and walks no path.
    Raises LinksBeyondError as soon as there are more of them, a process without any counted as one, or it takes longer.
    """
    found: dict[int, int] = {}
    looked = 0
    end = time.thread_time() + seconds_max
    for pid in pids:
        for folder in ("fd", "map_files"):
            looked += 1
            with suppress(OSError), os.scandir(proc / str(pid) / folder) as links:
                for link in links:
                    looked += 1
                    if looked > links_max or time.thread_time() > end:
                        raise LinksBeyondError(looked)
                    with suppress(OSError):
                        status = link.stat()
                        if not status.st_nlink and status.st_dev == device and stat.S_ISREG(status.st_mode):
                            found[status.st_ino] = status.st_blocks * 512
        if looked > links_max or time.thread_time() > end:
            raise LinksBeyondError(looked)
    return sum(found.values())


def look_pause_seconds(look_seconds: float) -> float:
    """How long to wait after a look that took `look_seconds`."""
    return min(_PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, look_seconds / _LOOK_SHARE))


def floor_failure(folder: Path, floor_bytes: int) -> Failure | None:
    """The failure that it is if the disk of `folder` has less than `floor_bytes` left. Raises OSError for a disk that fails."""
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize >= floor_bytes:
        return None
    message = "The host's disk ran low while the container ran, so the container was stopped: what is left is kept for the machine itself."
    return Failure(code=FailureCode.HOST_DISK, message=message)


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
    if size.unseen is not None:
        # As above: files without a name may be among what was not looked at.
        message = (
            f"The container's processes may have {LINKS_MAX} open and mapped files together, as many as can be looked through for files "
            f"without a name in {LINKS_SECONDS_MAX:g} s of a processor; after {size.unseen} there were more. "
            "Let fewer processes hold fewer files."
        )
        return Failure(code=FailureCode.LIMIT_DISK, message=message)
    return None
