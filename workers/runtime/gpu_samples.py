"""What the GPUs granted to a run are doing, read through NVML while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

from workers.nvml import ON_THE_CHIP, Nvml, NvmlError, nvml_open
from workers.protocol.messages.machine import Gpu
from workers.runtime.interface import GpuSample


def gpu_samples(granted: Sequence[Gpu]) -> Iterator[tuple[GpuSample, ...]]:
    """Each `next` reads every granted GPU, in their order. Never ends and raises nothing: what a GPU does not tell is None.

    NVML stays open in between; it is closed with the generator, which dropping it does, and after a reading in which no GPU told
    anything, so that a driver that is back is found. Without granted GPUs it is never loaded.
    """
    if not granted:
        yield from repeat(())
    while True:
        untold = tuple(GpuSample(gpu.name) for gpu in granted)
        try:
            with nvml_open() as nvml:
                while True:
                    read = tuple(_read(nvml, gpu) for gpu in granted)
                    if read == untold:
                        break
                    yield read
        except NvmlError:
            """Not even opened: nobody tells anything."""
        yield untold


def _read(nvml: Nvml, gpu: Gpu) -> GpuSample:
    handle = nvml.told("DeviceGetHandleByUUID", gpu.uuid)
    if handle is None:
        return GpuSample(gpu.name)
    rates = nvml.told("DeviceGetUtilizationRates", handle)
    memory = nvml.told("DeviceGetMemoryInfo", handle)
    milliwatts = nvml.told("DeviceGetPowerUsage", handle)
    return GpuSample(
        name=gpu.name,
        utilisation=None if rates is None else min(1.0, rates.gpu / 100),
        memory_bytes=None if memory is None else int(memory.used),
        temperature_celsius=nvml.told("DeviceGetTemperature", handle, ON_THE_CHIP),
        power_watts=None if milliwatts is None else milliwatts / 1000,
    )
