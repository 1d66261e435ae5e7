"""The machine's NVIDIA GPUs, as NVML reports them, and which of the lent ones are there at the moment.

A GPU that does not tell its uuid and memory is left out: it could not be granted by name. That is so for one that has fallen off the bus,
and for all of them while a driver is updated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from workers.nvml import Nvml, NvmlError, nvml_open
from workers.protocol.messages.machine import Gpu

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
"""Between two looks at the lent GPUs, and how long a look may take before they count as gone."""


@dataclass(frozen=True)
class GpuReading:
    """All GPUs that can be used, by index; and a sentence for each reason why one, or all, can't be."""

    gpus: tuple[Gpu, ...] = ()
    troubles: tuple[str, ...] = ()


def gpus_read() -> GpuReading:
    """What NVML says now. Raises nothing. May take seconds where the driver has to wake the GPUs first."""
    found: list[Gpu] = []
    troubles: list[str] = []
    try:
        with nvml_open() as nvml:
            count = int(nvml.ask("DeviceGetCount"))
            driver_version = str(nvml.told("SystemGetDriverVersion") or "")[:200]
            for index in range(count):
                try:
                    found.append(_gpu(nvml, index, driver_version))
                except NvmlError as error:
                    troubles.append(f"GPU {index} is left out: {error}")
    except NvmlError as error:
        troubles.append(f"no GPUs: {error}")
    return GpuReading(tuple(found), tuple(troubles))


def gpus_found() -> tuple[Gpu, ...]:
    """All GPUs that can be used, by index. No driver, or no GPU: an empty tuple, and a line in the log that says which."""
    reading = gpus_read()
    for trouble in reading.troubles:
        log.info("%s", trouble)
    return reading.gpus


def _gpu(nvml: Nvml, index: int, driver_version: str) -> Gpu:
    handle = nvml.ask("DeviceGetHandleByIndex", index)
    return Gpu(
        index=index,
        uuid=str(nvml.ask("DeviceGetUUID", handle))[:200],
        name=str(nvml.told("DeviceGetName", handle) or "unknown")[:200],
        memory_bytes=int(nvml.ask("DeviceGetMemoryInfo", handle).total),
        driver_version=driver_version,
    )


class GpuWatch:
    """Which of the lent GPUs answer, looked up again every LOOK_SECONDS as long as somebody asks. Without lent GPUs it never looks.

    Thread-safe. The first look is made by the constructor; later ones by a thread of their own, since a driver in trouble may not answer.
    """

    def __init__(
        self, lent: Sequence[Gpu], *, read: Callable[[], GpuReading] = gpus_read, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uuids = frozenset(gpu.uuid for gpu in lent)
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._present: tuple[Gpu, ...] = tuple(lent)
        self._troubles: tuple[str, ...] = ()
        self._looking = False
        self._looked_at = clock()
        if self._uuids:
            self._look()

    def present(self) -> tuple[Gpu, ...]:
        """The lent GPUs that answered the last look, by index; none once a look has waited for LOOK_SECONDS. Does not wait itself."""
        if not self._uuids:
            return ()
        with self._lock:
            overdue = self._clock() - self._looked_at >= LOOK_SECONDS
            if overdue and self._looking:
                return ()
            if overdue:
                self._looking, self._looked_at = True, self._clock()
                threading.Thread(target=self._look, name="nexa-gpu-watch", daemon=True).start()
            return self._present

    def _look(self) -> None:
        try:
            reading = self._read()
        except Exception:
            log.exception("a fault of this software as the GPUs were looked at")
            reading = GpuReading((), ("the GPUs could not be looked at",))
        present = tuple(gpu for gpu in reading.gpus if gpu.uuid in self._uuids)
        with self._lock:
            gone = {gpu.uuid for gpu in self._present} - {gpu.uuid for gpu in present}
            back = {gpu.uuid for gpu in present} - {gpu.uuid for gpu in self._present}
            news = reading.troubles != self._troubles
            self._present, self._troubles, self._looking = present, reading.troubles, False
        if gone:
            log.warning("not offered until they are back: %s", ", ".join(sorted(gone)))
        if back:
            log.info("offered again: %s", ", ".join(sorted(back)))
        if news:
            for trouble in reading.troubles:
                log.warning("%s", trouble)
