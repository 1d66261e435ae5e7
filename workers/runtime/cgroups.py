"""What a container used, read from the kernel's own counters: cheaper and sooner than asking the engine, which takes a second to answer.

Works where the engine runs on this machine and its cgroups can be seen, which needs no rights; elsewhere nothing is found. The
counters vanish with the container, so the last reading is one of while it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_FIELDS: Final = 3
_USUAL_PLACES: Final = ("docker/{}", "system.slice/docker-{}.scope", "machine.slice/libpod-{}.scope")
"""Docker with the cgroupfs driver, Docker with systemd, Podman as root."""


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """Counters since the container started. `memory_peak_bytes` is None where the kernel keeps none (version 2 before Linux 5.19)."""

    cpu_seconds: float
    memory_peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The files of one container's cgroup. `cpu_file` is `cpu.stat` (version 2) or `cpuacct.usage` (version 1)."""

    cpu_file: Path
    memory_peak_file: Path | None

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


def cgroup_usual(container_id: str, *, cgroups: Path = _CGROUPS) -> Cgroup | None:
    """The container's cgroup where engines usually put it, found while the container is still being started; None: not there."""
    for parent in _USUAL_PLACES:
        path = parent.format(container_id)
        together = ("cpu,cpuacct", path)
        if (file := _file(cgroups, "cpuacct", together, "cpuacct.usage")) is not None:
            return Cgroup(file, _file(cgroups, "memory", ("memory", path), "memory.max_usage_in_bytes"))
        if (file := _file(cgroups, "", ("", path), "cpu.stat")) is not None:
            return Cgroup(file, _file(cgroups, "", ("", path), "memory.peak"))
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
    elif "" in paths:
        cpu_file = _file(cgroups, "", paths[""], "cpu.stat")
        peak_file = _file(cgroups, "", paths[""], "memory.peak")
    else:
        return None
    return Cgroup(cpu_file, peak_file) if cpu_file is not None else None


def _file(cgroups: Path, controller: str, place: tuple[str, str], name: str) -> Path | None:
    """Version 1 mounts a hierarchy under its controllers' names together, with a link for each, or under one name alone."""
    together, path = place
    return next((file for folder in (together, controller) if (file := cgroups / folder / path / name).exists()), None)
