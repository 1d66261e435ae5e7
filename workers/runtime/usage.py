"""What a container used, read from the engine's stats: cgroup v1 and v2 name things differently, and either may be partly absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from workers.protocol.messages.receipt import GpuUsage, Usage
from workers.runtime.cgroups import CgroupReading
from workers.runtime.interface import GpuSample, Sample


def _number(of: Any, *names: str) -> int | None:
    """The whole number under nested names, or None where any is absent or something else."""
    for name in names:
        of = of.get(name) if isinstance(of, Mapping) else None
    return of if isinstance(of, int) and not isinstance(of, bool) and of >= 0 else None


def _io_bytes(stats: Mapping[str, Any], operation: str) -> int | None:
    found = stats.get("blkio_stats")
    entries = found.get("io_service_bytes_recursive") if isinstance(found, Mapping) else None
    if not isinstance(entries, list):
        return None
    named = (entry for entry in entries if isinstance(entry, Mapping) and str(entry.get("op", "")).lower() == operation)
    return sum(_number(entry, "value") or 0 for entry in named)


class Integral:
    """Of a measured value over time, by trapezoids between neighbouring readings. One that failed leaves a gap: nothing is made up."""

    def __init__(self) -> None:
        self.total: float | None = None
        """None before two neighbouring readings."""
        self._last: tuple[float, float] | None = None

    def add(self, at_seconds: float, value: float | None) -> None:
        """A reading, later than the one before; None: it failed."""
        if value is not None and self._last is not None:
            last_seconds, last_value = self._last
            self.total = (self.total or 0.0) + (at_seconds - last_seconds) * (last_value + value) / 2
        self._last = None if value is None else (at_seconds, value)


class _GpuMeter:
    """One granted GPU, over the samples of a run."""

    def __init__(self) -> None:
        self._name = ""
        self._utilisation = Integral()
        self._power = Integral()
        self._memory_peak_bytes: int | None = None
        self._temperature_peak_celsius: int | None = None

    def add(self, at_seconds: float, sample: GpuSample) -> None:
        self._name = sample.name
        self._utilisation.add(at_seconds, sample.utilisation)
        self._power.add(at_seconds, sample.power_watts)
        self._memory_peak_bytes = _peak(self._memory_peak_bytes, sample.memory_bytes)
        self._temperature_peak_celsius = _peak(self._temperature_peak_celsius, sample.temperature_celsius)

    def usage(self) -> GpuUsage:
        return GpuUsage(
            name=self._name,
            utilisation_seconds=self._utilisation.total,
            memory_peak_bytes=self._memory_peak_bytes,
            temperature_peak_celsius=self._temperature_peak_celsius,
            energy_joules=self._power.total,
        )


def _peak(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


class UsageMeter:
    """Makes samples of an engine's stats, and the usage of the whole run of samples. Not thread-safe."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._samples = 0
        self._memory = Integral()
        self._pids_peak: int | None = None
        self._gpus: list[_GpuMeter] = []

    def sample(
        self,
        stats: Mapping[str, Any],
        *,
        at: datetime,
        elapsed_seconds: float,
        output_bytes: int | None,
        gpus: Sequence[GpuSample] = (),
    ) -> Sample | None:
        """None where the stats tell nothing, as they do before a container starts and after it has ended.

        `gpus` are those granted, the same ones in each sample.
        """
        cpu_nanoseconds = _number(stats, "cpu_stats", "cpu_usage", "total_usage")
        memory_bytes = _number(stats, "memory_stats", "usage")
        if not cpu_nanoseconds or memory_bytes is None:
            return None
        last = self._last
        # Pages of files that can be dropped at any time are not what a job needs: subtracted, as `docker stats` does.
        droppable = (
            _number(stats, "memory_stats", "stats", "total_inactive_file") or _number(stats, "memory_stats", "stats", "inactive_file") or 0
        )
        cpu_seconds = cpu_nanoseconds / 1e9
        cpu_percent = None
        if last is not None and elapsed_seconds > last.elapsed_seconds:
            cpu_percent = max(0.0, 100 * (cpu_seconds - last.cpu_seconds) / (elapsed_seconds - last.elapsed_seconds))
        peak = max(memory_bytes, _number(stats, "memory_stats", "max_usage") or 0, last.memory_peak_bytes if last else 0)
        self._last = Sample(
            at=at,
            elapsed_seconds=round(elapsed_seconds, 3),
            cpu_seconds=cpu_seconds,
            cpu_percent=None if cpu_percent is None else round(cpu_percent, 1),
            memory_bytes=max(0, memory_bytes - droppable),
            memory_peak_bytes=peak,
            pids=_number(stats, "pids_stats", "current"),
            read_bytes=_io_bytes(stats, "read"),
            written_bytes=_io_bytes(stats, "write"),
            output_bytes=output_bytes,
            gpus=tuple(gpus),
        )
        self._add(self._last)
        return self._last

    def _add(self, sample: Sample) -> None:
        self._samples += 1
        self._memory.add(sample.elapsed_seconds, sample.memory_bytes)
        self._pids_peak = _peak(self._pids_peak, sample.pids)
        self._gpus = self._gpus or [_GpuMeter() for _ in sample.gpus]
        for meter, gpu in zip(self._gpus, sample.gpus, strict=True):
            meter.add(sample.elapsed_seconds, gpu)

    def usage(self, *, wall_seconds: float, gpus: int, counters: CgroupReading | None = None) -> Usage:
        """Up to the last sample, a second before the end at most, or the kernel's `counters` where they are known and tell more.

        GPU seconds are granted ones.
        """
        cpu_seconds = self._last.cpu_seconds if self._last else 0.0
        peak_bytes = self._last.memory_peak_bytes if self._last else 0
        if counters is not None:
            cpu_seconds = max(cpu_seconds, counters.cpu_seconds)
            peak_bytes = max(peak_bytes, counters.memory_peak_bytes or 0)
        return Usage(
            wall_seconds=wall_seconds,
            cpu_seconds=cpu_seconds,
            memory_peak_bytes=peak_bytes,
            memory_byte_seconds=self._memory.total,
            pids_peak=self._pids_peak,
            read_bytes=self._last.read_bytes if self._last else None,
            written_bytes=self._last.written_bytes if self._last else None,
            samples=self._samples,
            gpu_seconds=wall_seconds * gpus if gpus else None,
            gpus=tuple(meter.usage() for meter in self._gpus),
        )
