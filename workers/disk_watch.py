"""What of the machine's disks runs may have: seen before work is asked for, and cleared of caches when runs need it.

1. The contributor's disk is lent, not given: `reserve_bytes` stay free on each disk that work touches, which are the one under the node
   home (inputs, outputs, archives, the cache of inputs) and the one under the engine's data root (images), often one and the same.
2. Caches give way to runs. So what they hold counts as free, and is given up as soon as what runs may still write would not fit
   otherwise: first inputs, then images, which cost more to have again.
3. What runs may still write is what was set aside for them, less what they have written.
4. A disk below its reserve, with nothing left to give up, is a reason to want no work: `disk_low`. An engine's own disk is only looked at
   for that; no order can ask for room on it. Below half of it, runs are ended: by those that look at their outputs.
5. A node home that can't be written is one too (`home_unwritable`): what is begun there would come to nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from rich.filesize import decimal

from workers.protocol.messages.exchange import NoWork
from workers.runtime.interface import ImageKeeper, RuntimeFailureError
from workers.runtime.output_watch import folder_measure

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 5.0


class Forgetting(Protocol):
    """A cache: what it holds, and how it gives up what is beyond its budget, or so much; the bytes given up."""

    def kept_bytes(self) -> int: ...

    def trim(self, *, room_bytes: int | None = None) -> int: ...


class DiskWatch:
    """A thread that looks every few seconds, and when woken. `free_bytes`, `written_bytes` and `hold` may be asked from any thread."""

    def __init__(self, *, home_folder: Path, work_folder: Path, inputs: Forgetting, images: ImageKeeper, reserve_bytes: int) -> None:
        self._home_folder = home_folder
        self._work_folder = work_folder
        self._inputs = inputs
        self._images = images
        self._reserve_bytes = reserve_bytes
        self._written: dict[UUID, int] = {}
        self._image_folder: Path | None = None
        self._hold: NoWork | None = None
        self._owed: Callable[[], dict[UUID, int]] = dict
        self._changed: Callable[[], None] = lambda: None
        self._wakes = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="nexa-disk-watch", daemon=True)

    def start(self, *, owed: Callable[[], dict[UUID, int]], changed: Callable[[], None]) -> None:
        """Begin to look; the first look has been taken when this returns.

        `owed`: by lease, what it may still write. `changed` is called when `hold` has changed.
        """
        self._owed, self._changed = owed, changed
        self._look()
        self._thread.start()

    def wake(self) -> None:
        """Look soon: more was set aside."""
        self._wakes.set()

    def stop(self) -> None:
        """End the thread, and wait for it, unless an engine keeps it."""
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def free_bytes(self) -> int:
        """What runs could have under the node home, beside what the machine keeps; may be below nothing. Quick."""
        return self._home_free_bytes() - self._reserve_bytes

    def written_bytes(self, lease_id: UUID) -> int:
        """What a run had written of what it may, at the last look."""
        return self._written.get(lease_id, 0)

    def hold(self) -> NoWork | None:
        """Why no work is wanted, if so, as of the last look: `disk_low`, `home_unwritable`."""
        return self._hold

    def _loop(self) -> None:
        while not self._stopping:
            self._wakes.wait(LOOK_SECONDS)
            self._wakes.clear()
            if not self._stopping:
                try:
                    # What a budget that was lowered, a pull that was killed, or a fetch that was given up has left.
                    self._images.trim()
                    self._inputs.trim()
                    self._look()
                except Exception:
                    log.exception("a fault of this software in the watch over disks")

    def _look(self) -> None:
        before = self._hold
        try:
            self._written = {lease_id: self._measured(lease_id) for lease_id in self._owed()}
            with suppress(RuntimeFailureError):  # an engine that is away is a hold of its own; its folder stays where it was
                self._image_folder = self._images.folder()
            self._room_make()
            found = self._judged()
        except OSError as error:
            log.warning("the disks can't be looked at: %s", error)
            found = before
        self._hold = found or self._unwritable()
        if self._hold != before:
            log.warning("%s", self._hold.message if self._hold else "there is room on the disk again, and the node home can be written")
            self._changed()

    def _measured(self, lease_id: UUID) -> int:
        folder = self._work_folder / str(lease_id)
        archive = folder / "archive.tar"
        return folder_measure(folder / "outputs").allocated_bytes + (archive.stat().st_blocks * 512 if archive.exists() else 0)

    def _room_make(self) -> None:
        short_bytes = self._reserve_bytes + sum(self._owed().values()) - shutil.disk_usage(self._home_folder).free
        if short_bytes > 0:
            short_bytes -= self._inputs.trim(room_bytes=short_bytes)
        if not self._images_at_home() and self._image_folder is not None:
            short_bytes = self._reserve_bytes - shutil.disk_usage(self._image_folder).free
        if short_bytes > 0 and self._image_folder is not None:
            self._images.trim(room_bytes=short_bytes)

    def _judged(self) -> NoWork | None:
        found = {"under the node home": self._home_free_bytes()}
        if self._image_folder is not None and not self._images_at_home():
            found["of the container engine"] = shutil.disk_usage(self._image_folder).free + self._images.kept_bytes()
        for which, free_bytes in found.items():
            if free_bytes < self._reserve_bytes:
                message = (
                    f"The disk {which} has {decimal(max(0, free_bytes))} free, with all that could be given up; "
                    f"{decimal(self._reserve_bytes)} are kept for the machine itself. Make room on it, or set disk_reserve_gib."
                )
                return NoWork(code="disk_low", message=message)
        return None

    def _unwritable(self) -> NoWork | None:
        for name, folder in (("The node home", self._home_folder), ("The folder work/ of the node home", self._work_folder)):
            try:
                folder.mkdir(exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as file:  # nothing is left of it, whatever happens
                    file.write(b"\0")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                message = (
                    f"{name} can't be written: {error.strerror}. See whether its disk is mounted read-only, full or over a quota, "
                    "and whether all in it belongs to the worker's user."
                )
                return NoWork(code="home_unwritable", message=message)
        return None

    def _home_free_bytes(self) -> int:
        images_bytes = self._images.kept_bytes() if self._images_at_home() else 0
        return shutil.disk_usage(self._home_folder).free + self._inputs.kept_bytes() + images_bytes

    def _images_at_home(self) -> bool:
        """Whether images lie on the disk of the node home."""
        return self._image_folder is not None and self._image_folder.stat().st_dev == self._home_folder.stat().st_dev
