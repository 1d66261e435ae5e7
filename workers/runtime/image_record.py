"""What this host has pulled for jobs, kept in a file: only such images may ever be removed to make room."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image by the reference (`name@sha256:…`) that was pulled. `image_id` None: begun, and not known to have ended.

    `size_bytes`: unpacked, with layers that it shares with others; those of one `base_layer` may share more. `used_at`: Unix time.
    """

    reference: str
    image_id: str | None
    base_layer: str
    size_bytes: int
    used_at: float


_FILE: Final = TypeAdapter(tuple[PulledImage, ...])


class ImageRecord:
    """The pulled images, in `path` (None: in memory only). Thread-safe. Knows no engine, and doesn't say what is still there.

    A pull is noted before it begins, so that no image is forgotten by a process that is killed. A file that can't be read counts as
    empty: then images stay that could go, but none goes that is the contributor's.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._images = {image.reference: image for image in _read(path)}

    def images(self) -> list[PulledImage]:
        """All, those first that were not used for longest."""
        with self._mutex:
            return sorted(self._images.values(), key=lambda image: image.used_at)

    def pull_begun(self, reference: str) -> None:
        """Note that an image which is not here will come. Raises OSError."""
        self._set(PulledImage(reference, None, "", 0, time.time()))

    def pulled(self, reference: str, *, image_id: str, base_layer: str, size_bytes: int) -> PulledImage:
        """Note that it has come. Raises OSError."""
        image = PulledImage(reference, image_id, base_layer, size_bytes, time.time())
        self._set(image)
        return image

    def used(self, image_id: str) -> None:
        """Note a use, for the order of eviction; it reaches the file with the next pull or removal."""
        with self._mutex:
            for reference, image in self._images.items():
                if image.image_id == image_id:
                    self._images[reference] = replace(image, used_at=time.time())

    def forget(self, reference: str) -> None:
        """Note that it is not here, or no longer ours. Raises OSError."""
        with self._mutex:
            if self._images.pop(reference, None) is not None:
                self._write()

    def _set(self, image: PulledImage) -> None:
        with self._mutex:
            self._images[image.reference] = image
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.new")
        with new.open("wb") as file:
            file.write(_FILE.dump_json(tuple(self._images.values()), indent=1))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _read(path: Path | None) -> tuple[PulledImage, ...]:
    if path is None:
        return ()
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        log.warning("%s can't be read, so images pulled before stay in the engine until you remove them: %s", path, error)
        return ()
