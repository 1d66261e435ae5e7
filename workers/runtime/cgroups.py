"""What the kernel itself says of a container: what it used, what it is held to, and its processes.

Counters are cheaper and sooner here than from the engine, which takes a second to answer; limits are the kernel's word on what an engine
made of what it was told. Works where the engine runs on this machine and its cgroups can be seen, which needs no rights; elsewhere nothing
is found. All of it vanishes with the container, so the last reading is one of while it ran.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.protocol.messages.order import Limits

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_FIELDS: Final = 3
_USUAL_PLACES: Final = ("docker/{}", "system.slice/docker-{}.scope", "machine.slice/libpod-{}.scope")
"""Docker with the cgroupfs driver, Docker with systemd, Podman as root."""
_LIMITING: Final = ("memory", "pids", "cpu")
_UNLIMITED_BYTES: Final = 2**60
"""Version 1 writes no limit of memory as the largest number of pages."""
_CPU_TOLERANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """Counters since the container started. `memory_peak_bytes` is None where the kernel keeps none (version 2 before Linux 5.19)."""

    cpu_seconds: float
    memory_peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What a container is held to. `inf`: to nothing; None: it cannot be seen. `swap_bytes` is beyond `memory_bytes`."""

    memory_bytes: float | None = None
    swap_bytes: float | None = None
    pids: float | None = None
    cpus: float | None = None

    def beyond(self, asked: Limits, *, swap_exists: bool) -> dict[str, float]:
        """Limits that are looser than what was asked for, by the names that an engine's profile uses, with what was found."""
        found = {
            "memory": (self.memory_bytes, asked.memory_bytes),
            "swap": (self.swap_bytes if swap_exists else None, 0),
            "pids": (self.pids, asked.pids),
            "cpus": (self.cpus, asked.cpus * (1 + _CPU_TOLERANCE)),
        }
        return {name: value for name, (value, most) in found.items() if value is not None and value > most}


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The files of one container's cgroup. `cpu_file` is `cpu.stat` (version 2) or `cpuacct.usage` (version 1).

    `folders` hold the limits, by controller: in version 2 all the same one.
    """

    cpu_file: Path
    memory_peak_file: Path | None
    folders: Mapping[str, Path] = field(default_factory=dict)

    def read(self) -> CgroupReading | None:
        """None when the container has ended, or the files hold something else than expected."""
        try:
            text = self.cpu_file.read_text(encoding="utf-8")
            if self.cpu_file.name == "cpu.stat":
                cpu_seconds = int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6
            else:
                cpu_seconds = int(text) / 1e9
        except (OSError, ValueError, KeyError):
            return None
        peak = None
        if self.memory_peak_file is not None:
            try:
                peak = int(self.memory_peak_file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                peak = None
        return CgroupReading(cpu_seconds, peak)

    def pids(self) -> list[int]:
        """The processes in it now, as this machine counts them; none when it is gone."""
        try:
            return [int(line) for line in (self.cpu_file.parent / "cgroup.procs").read_text(encoding="utf-8").split()]
        except (OSError, ValueError):
            return []

    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has killed for want of memory; None when it is gone, or the kernel does not count them."""
        if "memory" not in self.folders:
            return None
        name = "memory.events" if self.cpu_file.name == "cpu.stat" else "memory.oom_control"
        return _oom_kills(self.folders["memory"] / name)

    def memory_refusals(self) -> int | None:
        """How often it was at its own limit of memory and somebody had to be killed; None when it is gone, or nobody counts that.

        Version 1 does not: its counters of failures stay at zero on some machines.
        """
        if "memory" not in self.folders or self.cpu_file.name != "cpu.stat":
            return None
        return _counted(self.folders["memory"] / "memory.events", "oom")

    def limits(self) -> CgroupLimits:
        """What the kernel holds the container to, once it has been started."""
        if self.cpu_file.name == "cpu.stat":
            return CgroupLimits(
                self._limit("memory", "memory.max", _amount),
                self._limit("memory", "memory.swap.max", _amount),
                self._limit("pids", "pids.max", _amount),
                self._limit("cpu", "cpu.max", lambda text: _amount(text.split()[0]) / int(text.split()[1])),
            )
        memory_bytes = self._limit("memory", "memory.limit_in_bytes", _amount)
        both_bytes = self._limit("memory", "memory.memsw.limit_in_bytes", _amount)
        quota, period = (self._limit("cpu", f"cpu.cfs_{name}_us", float) for name in ("quota", "period"))
        return CgroupLimits(
            memory_bytes,
            None if both_bytes is None or memory_bytes is None or memory_bytes == math.inf else both_bytes - memory_bytes,
            self._limit("pids", "pids.max", _amount),
            None if quota is None or not period else math.inf if quota < 0 else quota / period,
        )

    def _limit(self, controller: str, name: str, parse: Callable[[str], float]) -> float | None:
        with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
            if controller in self.folders:
                return parse((self.folders[controller] / name).read_text(encoding="utf-8"))
        return None


def cgroup_usual(container_id: str, *, cgroups: Path = _CGROUPS) -> Cgroup | None:
    """The container's cgroup where engines usually put it, found while the container is still being started; None: not there."""
    for parent in _USUAL_PLACES:
        path = parent.format(container_id)
        together = ("cpu,cpuacct", path)
        if (file := _file(cgroups, "cpuacct", together, "cpuacct.usage")) is not None:
            peak_file = _file(cgroups, "memory", ("memory", path), "memory.max_usage_in_bytes")
            return Cgroup(file, peak_file, {name: cgroups / name / path for name in _LIMITING})
        if (file := _file(cgroups, "", ("", path), "cpu.stat")) is not None:
            return Cgroup(file, _file(cgroups, "", ("", path), "memory.peak"), dict.fromkeys(_LIMITING, file.parent))
    return None


def cgroup_of(pid: int, container_id: str, *, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Cgroup | None:
    """The cgroup of the container whose first process is `pid`, or None where it cannot be seen.

    An engine in another machine or pid namespace counts other processes: a cgroup that is not named after the container is not its.
    """
    if pid <= 0 or not container_id:
        return None
    try:
        text = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    paths: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        fields = line.split(":", _FIELDS - 1)
        if len(fields) == _FIELDS and container_id in fields[2] and ".." not in fields[2].split("/"):
            for controller in fields[1].split(","):
                paths[controller] = (fields[1], fields[2].lstrip("/"))
    if "cpuacct" in paths:
        cpu_file = _file(cgroups, "cpuacct", paths["cpuacct"], "cpuacct.usage")
        peak_file = _file(cgroups, "memory", paths["memory"], "memory.max_usage_in_bytes") if "memory" in paths else None
        limiting = {name: _file(cgroups, name, paths[name], "cgroup.procs") for name in _LIMITING if name in paths}
    elif "" in paths:
        cpu_file = _file(cgroups, "", paths[""], "cpu.stat")
        peak_file = _file(cgroups, "", paths[""], "memory.peak")
        limiting = dict.fromkeys(_LIMITING, cpu_file)
    else:
        return None
    if cpu_file is None:
        return None
    return Cgroup(cpu_file, peak_file, {name: file.parent for name, file in limiting.items() if file is not None})


def machine_oom_kills(*, proc: Path = _PROC) -> int | None:
    """How many processes of this machine the kernel has killed for want of memory, of a container or of all; None if it does not tell."""
    return _oom_kills(proc / "vmstat")


def _oom_kills(file: Path) -> int | None:
    return _counted(file, "oom_kill")


def _counted(file: Path, name: str) -> int | None:
    """From a file of lines of a name and a number."""
    with suppress(OSError, ValueError, KeyError):
        return int(dict(line.split() for line in file.read_text(encoding="utf-8").splitlines())[name])
    return None


def _file(cgroups: Path, controller: str, place: tuple[str, str], name: str) -> Path | None:
    """Version 1 mounts a hierarchy under its controllers' names together, with a link for each, or under one name alone."""
    together, path = place
    return next((file for folder in (together, controller) if (file := cgroups / folder / path / name).exists()), None)


def _amount(text: str) -> float:
    """A number, or `max`; one that only stands for no limit is none."""
    number = math.inf if text.strip() == "max" else float(int(text))
    return number if number < _UNLIMITED_BYTES else math.inf
