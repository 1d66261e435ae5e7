"""The images of a Docker engine as far as jobs use them: pulled within a size, removed again within a budget.

1. Only what this host has pulled is ever removed, by the reference under which it came, without force: an image that the contributor
   tagged meanwhile stays under that tag, and the engine itself refuses to remove one that a container is made from.
2. An image that was handed out is about to run: it stays for ten minutes, and after that while it runs.
3. Sizes are those of unpacked images. Before that is known, while pulling, what is downloaded is held against the same limit, and the
   engine's disk against the machine's reserve: a small download may unpack to anything. An image beyond the limit is refused by this
   host (`host_refused`), since it is the contributor's limit and not a fault of the job: another host may take it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import docker
from docker.errors import APIError, ImageNotFound
from requests.exceptions import RequestException

from workers.keyed_locks import KeyedLocks
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_images import ENGINE_ERRORS, image_present, image_pull
from workers.runtime.image_record import ImageRecord, PulledImage
from workers.runtime.interface import PullProgress, RuntimeFailureError

log = logging.getLogger(__name__)

HANDED_OUT_SECONDS: Final = 600.0
_CONFLICT_STATUS: Final = 409
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What images may take: one of them, and all that were pulled; `reserve_bytes` must stay free on the engine's disk."""

    pull_bytes_max: int = 20 * _GIB
    budget_bytes: int = 30 * _GIB
    reserve_bytes: int = _GIB


class DockerImageStore:
    """Images for jobs. Thread-safe; several runs that want one image share one pull.

    `connected` gives the client that all threads share, `connect` makes one for a pull; both raise RuntimeFailureError.
    """

    def __init__(
        self,
        *,
        connected: Callable[[], docker.APIClient],
        connect: Callable[[], docker.APIClient],
        record: ImageRecord,
        limits: ImageLimits,
    ) -> None:
        self._connected = connected
        self._connect = connect
        self._record = record
        self._limits = limits
        self._locks = KeyedLocks()
        self._folder: Path | None = None
        self._mutex = threading.Lock()
        """Held to look whether an image is there and mark it as in use, and to see that one isn't and remove it."""
        self._handed_out: dict[str, list[float]] = {}
        """By image id: when, for each run that has not begun yet."""
        self._running: Counter[str] = Counter()

    def ensure(
        self,
        image: ImageReference,
        *,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float,
    ) -> str:
        """The image's id, as `Runtime.image_ensure` promises; it stays until the run that it is meant for has had time to begin."""
        with self._locks.held(image.pull or "", cancel=cancel) as held:
            if not held:
                raise RuntimeFailureError(FailureCode.CANCELLED, "Cancelled while waiting for an image that is pulled for another run.")
            found = self._hand_out(image)
            if found is None and image.pull is not None:
                self._pull(image.pull, cancel, report, timeout_seconds)
                found = self._hand_out(image)
        if found is None:
            raise RuntimeFailureError(
                FailureCode.IMAGE_UNAVAILABLE, f"{image.name} ({image.image_id}) is not loaded in this host's engine; load it."
            )
        self.trim()
        return found

    @contextmanager
    def in_use(self, image_id: str) -> Iterator[None]:
        """Keep the image while a container is made from it and runs."""
        with self._mutex:
            self._running[image_id] += 1
            if waiting := self._handed_out.get(image_id):
                waiting.pop(0)
        try:
            yield
        finally:
            with self._mutex:
                self._running[image_id] -= 1
            self._record.used(image_id)

    def folder(self) -> Path | None:
        client = self._connected()
        if self._folder is None:
            try:
                self._folder = Path(str(client.info().get("DockerRootDir") or "/nowhere"))
            except ENGINE_ERRORS as error:
                raise RuntimeFailureError(FailureCode.HOST_ENGINE, "The container engine can't be asked where its images are.") from error
        # An engine reached over a network has a folder of that name on its machine, not on this one.
        local = str(client.base_url).startswith(("http+docker://", "unix://"))
        return self._folder if local and self._folder.is_dir() else None

    def kept_bytes(self) -> int:
        # Of images on one base nobody knows how much they share: the largest counts, and none as long as one of them is in use.
        # Without the lock, which may be held while an engine takes its time: this is asked between exchanges.
        by_base: dict[str, int] = {}
        for image in self._record.images():
            before = by_base.get(image.base_layer, 0)
            by_base[image.base_layer] = -1 if before < 0 or self._spoken_for(image) else max(before, image.size_bytes)
        return sum(max(0, size_bytes) for size_bytes in by_base.values())

    def trim(self, *, room_bytes: int | None = None) -> int:
        removed_bytes = 0
        try:
            images = self._settled()
            kept_bytes = sum(image.size_bytes for image in images)
            excess_bytes = kept_bytes - self._limits.budget_bytes if room_bytes is None else room_bytes
            for image in images:
                if removed_bytes >= excess_bytes:
                    break
                removed_bytes += self._remove(image)
        except (RuntimeFailureError, *ENGINE_ERRORS) as error:
            log.warning("images could not be removed: %s", f"{error}")
        return removed_bytes

    def _hand_out(self, image: ImageReference) -> str | None:
        with self._mutex:
            found = image_present(self._connected(), image)
            if found is not None:
                self._handed_out.setdefault(found, []).append(time.monotonic())
                self._record.used(found)
            return found

    def _pull(
        self,
        reference: str,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float,
    ) -> None:
        folder = self.folder()

        def watch(progress: PullProgress) -> None:
            self._size_check(reference, max(progress.total_bytes, progress.done_bytes))
            if folder is not None and shutil.disk_usage(folder).free < self._limits.reserve_bytes:
                raise RuntimeFailureError(FailureCode.HOST_DISK, f"The host's disk has no room for {reference}.")

        def pull() -> None:
            image_pull(self._connect, reference, cancel=cancel, report=report, watch=watch, timeout_seconds=timeout_seconds)

        try:
            self._record.pull_begun(reference)
            try:
                pull()
            except RuntimeFailureError as error:
                if error.failure.code is not FailureCode.HOST_DISK or not self.trim(room_bytes=2**63):
                    raise
                pull()
            self._pulled(reference)
        except RequestException as error:
            raise RuntimeFailureError(FailureCode.HOST_ENGINE, f"The container engine was lost: {type(error).__name__}.") from error
        except OSError as error:
            raise RuntimeFailureError(FailureCode.HOST_DISK, f"The host can't note what it pulls: {error.strerror}.") from error

    def _pulled(self, reference: str) -> None:
        settled = self._settle(reference)
        if settled is not None and settled.size_bytes > self._limits.pull_bytes_max:
            with self._mutex:
                self._remove_now(settled)
            self._size_check(reference, settled.size_bytes)

    def _size_check(self, reference: str, size_bytes: int) -> None:
        limit_bytes = self._limits.pull_bytes_max
        if size_bytes > limit_bytes:
            raise RuntimeFailureError(
                FailureCode.HOST_REFUSED,
                f"{reference} has {size_bytes} bytes or more; this host takes images of up to {limit_bytes} (pull_max_gib in node.toml).",
            )

    def _settled(self) -> list[PulledImage]:
        """All images of the record that could be removed; a pull that an earlier process began is looked up now."""
        found = []
        for image in self._record.images():
            if image.image_id is not None:
                found.append(image)
            elif not self._locks.is_held(image.reference) and (settled := self._settle(image.reference)) is not None:
                found.append(settled)
        return found

    def _settle(self, reference: str) -> PulledImage | None:
        """What a pull has brought, noted; None if nothing. Raises what an engine raises."""
        try:
            inspected = self._connected().inspect_image(reference)  # type: ignore[no-untyped-call]  # the SDK's decorator hides its type
        except ImageNotFound:
            self._record.forget(reference)
            return None
        layers = inspected.get("RootFS", {}).get("Layers") or [""]
        return self._record.pulled(reference, image_id=str(inspected["Id"]), base_layer=str(layers[0]), size_bytes=int(inspected["Size"]))

    def _spoken_for(self, image: PulledImage) -> bool:
        """Whether it runs, was handed out to run, or is about to be: somebody holds the lock on it, and has just pulled or found it."""
        image_id = image.image_id or ""
        # A copy: runs that begin take from the list at any time.
        handed_out = [-HANDED_OUT_SECONDS, *self._handed_out.get(image_id, ())]
        is_handed_out = time.monotonic() - handed_out[-1] < HANDED_OUT_SECONDS
        return is_handed_out or self._running[image_id] > 0 or self._locks.is_held(image.reference)

    def _remove(self, image: PulledImage) -> int:
        with self._mutex:
            if self._spoken_for(image):
                return 0
            return self._remove_now(image)

    def _remove_now(self, image: PulledImage) -> int:
        try:
            self._connected().remove_image(image.reference)
        except ImageNotFound:
            """Somebody else was faster."""
        except APIError as error:
            if error.status_code != _CONFLICT_STATUS:
                raise
            log.debug("%s stays: a container is made from it", image.reference)
            return 0
        self._record.forget(image.reference)
        log.info("%s was removed, %d bytes", image.reference, image.size_bytes)
        return image.size_bytes
