"""A disk of a test's own, a file with ext4 in it, that can be filled to the last byte and emptied again. Needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_BYTES = 6 * 2**30
"""Of which nothing is written: enough for a host to lend some of it after what it keeps free for the machine."""

_STEPS = (2**30, 2**24, 2**20, 2**16, 2**12)


class SmallDisk:
    """Mounted on `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Until nobody can write another block."""
        with self._ballast.open("wb") as file:
            size_bytes = 0
            for step in _STEPS:
                while True:
                    try:
                        os.posix_fallocate(file.fileno(), size_bytes, step)  # reserves blocks, and writes none
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break
                    size_bytes += step

    def empty(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, file: Path) -> Iterator[SmallDisk]:
    """A new disk on `folder`, which is made, in the sparse `file`. Both are gone afterwards."""
    folder.mkdir(parents=True, mode=0o700)
    with file.open("wb") as made:
        made.truncate(SIZE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", str(file)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(folder)], check=True)
    try:
        folder.chmod(0o700)
        yield SmallDisk(folder)
    finally:
        # Lazy: a process that a failed test left may still stand in it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        file.unlink()
