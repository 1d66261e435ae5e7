"""How much a running container has written to its outputs; nothing there is opened or followed."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.protocol.messages import Failure, FailureCode, Limits

ENTRIES_MAX: Final = 20_000
"""Files and folders that outputs may hold while a container runs; an archive takes half as many files."""


_HIDING: Final = frozenset({errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class FolderSize:
    """`content_bytes` as files claim (a sparse file claims much), `allocated_bytes` as the disk holds.

    `hidden`: some of it could not be measured, since a path was too long or a folder closed to this user.
    """

    content_bytes: int
    allocated_bytes: int
    entries: int
    hidden: bool = False


def folder_measure(folder: Path, *, entries_max: int = ENTRIES_MAX) -> FolderSize:
    """Sizes under `folder`, stopping once there are more than `entries_max` entries. What vanishes meanwhile is left out.

    Raises OSError for a disk that fails.
    """
    content = allocated = entries = 0
    hidden = False
    folders = [str(folder)]
    while folders and entries <= entries_max:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > entries_max:
                        break
                    try:
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                    except FileNotFoundError:
                        continue
                    allocated += status.st_blocks * 512
                    content += status.st_size if entry.is_file(follow_symlinks=False) else 0
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in _HIDING:
                raise
            hidden = True
    return FolderSize(content, allocated, entries, hidden)


def excess_of(size: FolderSize, limits: Limits) -> Failure | None:
    """The failure that outputs of this size are, if any."""
    if size.content_bytes > limits.output_bytes:
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
