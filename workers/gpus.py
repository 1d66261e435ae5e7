"""The machine's NVIDIA GPUs, as NVML reports them. No driver, or no GPU: an empty tuple, and a line in the log that says which."""

from __future__ import annotations

import logging
from typing import Any

import pynvml

from workers.protocol.messages import Gpu

log = logging.getLogger(__name__)


def gpus_found() -> tuple[Gpu, ...]:
    """All GPUs that can be used, by index. One that does not tell its uuid and memory is left out: it could not be granted by name."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info("no GPUs: NVML says %s", error)
        return ()
    try:
        count = int(pynvml.nvmlDeviceGetCount())
        driver_version = _text_or_empty(pynvml.nvmlSystemGetDriverVersion)
        found = (_gpu(index, driver_version) for index in range(count))
        return tuple(gpu for gpu in found if gpu is not None)
    except pynvml.NVMLError as error:
        log.warning("no GPUs: NVML was there, but could not count them: %s", error)
        return ()
    finally:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.warning("NVML could not be closed: %s", error)


def _gpu(index: int, driver_version: str) -> Gpu | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
        memory_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError as error:
        log.warning("GPU %d is left out: it does not tell its uuid and memory: %s", index, error)
        return None
    name = _text_or_empty(pynvml.nvmlDeviceGetName, handle) or "unknown"
    return Gpu(index=index, uuid=uuid, name=name, memory_bytes=memory_bytes, driver_version=driver_version)


def _text_or_empty(function: Any, *arguments: Any) -> str:
    try:
        return _text(function(*arguments))
    except pynvml.NVMLError as error:
        log.info("%s: %s", function.__name__, error)
        return ""


def _text(value: str | bytes) -> str:
    """Old versions of the binding give bytes."""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else value)[:200]
