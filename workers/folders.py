"""Removing a folder that a stranger's program has filled: nothing in it is followed, and no depth or mode of it keeps it there."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def folder_remove(folder: Path) -> bool:
    """Remove `folder` and all that is in it, as far as this user may; what is not there is fine. Raises nothing.

    Whether it is gone. What stays, since others own it or the disk fails, is a line in the log.

    `shutil.rmtree` recurses, so a thousand nested folders end it with RecursionError, and it stops at folders that are closed to their
    own owner. Here subfolders of subfolders are moved up first: two are open at any time, and paths stay short.
    """
    with suppress(OSError):
        _open_to_owner(folder)
        top = os.open(folder, _OPEN_FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        folder.rmdir()
    is_gone = not os.path.lexists(folder)
    if not is_gone:
        log.warning("%s could not be removed whole and takes disk: in it is what this user may not remove, or the disk fails", folder)
    return is_gone


def _empty(top: int) -> None:
    names = _names(top)
    moved = 0
    while names:
        name = names.pop()
        if not _is_folder(name, top):
            with suppress(OSError):
                os.unlink(name, dir_fd=top)
            continue
        with suppress(OSError):
            _open_to_owner(name, top)
            inner = os.open(name, _OPEN_FOLDER, dir_fd=top)
            try:
                for child in _names(inner):
                    if _is_folder(child, inner):
                        _open_to_owner(child, inner)  # moving a folder writes its "..", which needs its mode
                        moved += 1
                        target = f".nexapod-removed-{os.getpid()}-{moved}"
                        os.rename(child, target, src_dir_fd=inner, dst_dir_fd=top)
                        names.append(target)
                    else:
                        os.unlink(child, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        return [entry.name for entry in found]


def _is_folder(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _open_to_owner(folder: str | Path, parent: int | None = None) -> None:
    """Give the owner of a folder its rights back. Root has them anyway, and should a container have survived, must not be led astray."""
    if os.geteuid() != 0:
        status = os.stat(folder, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
            os.chmod(folder, 0o700, dir_fd=parent)
