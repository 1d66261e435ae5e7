"""What the machine tells of its battery, its users, its heat and its load. Reads, decides nothing: workers/manners.py does.

What works where:

    battery        psutil: Linux, macOS, Windows
    users          terminals of everybody who is logged in (utmp, logind), by when each was last typed into; on Linux also desktops, by
                   logind's idle hint, which GNOME, KDE and others set. macOS: terminals only. Inside a container: neither.
    temperatures   psutil: Linux (hwmon, thermal zones); GPUs through NVML
    load           psutil: Linux, macOS, Windows; inside a container, that of the whole machine. GPUs through NVML
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

import psutil

from workers.manners import MachineReading
from workers.nvml import ON_THE_CHIP, NvmlError, nvml_open

log = logging.getLogger(__name__)

LOGINCTL_SECONDS: Final = 2.0

_CPU_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Of hwmon and thermal zones, those that tell of the processor; the firmware's own zone (acpitz) where there is no better."""
_PLAUSIBLE_CELSIUS: Final = (1.0, 150.0)
_TERMINAL: Final = re.compile(r"(?:pts/|tty)[A-Za-z0-9]+")
_NO_PROPERTY: Final = {"", "0", "18446744073709551615"}

ReadT = TypeVar("ReadT")


class Temperature(Protocol):
    """As psutil tells it."""

    @property
    def current(self) -> float: ...


def machine_read(*, users: bool, gpus: bool) -> MachineReading:
    """One look at the machine, some milliseconds. Raises nothing.

    At its users only if `users`, which may start `loginctl`; at its GPUs only if `gpus`, which loads the driver's library.
    """
    return MachineReading(
        local=datetime.now().astimezone(),
        on_battery=_told(battery_in_use),
        idle_seconds=_told(users_idle_seconds) if users else None,
        cpu_celsius=_told(lambda: cpu_celsius(_temperatures())),
        gpu_celsius=_told(gpus_celsius) if gpus else None,
        cpu_percent=_told(cpu_percent),
        memory_percent=_told(lambda: psutil.virtual_memory().percent),
        gpu_percent=_told(gpus_percent) if gpus else None,
    )


def battery_in_use() -> bool | None:
    """Whether this machine runs on its battery; None without one, or where the system doesn't know."""
    # Not in every platform's psutil.
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def cpu_celsius(temperatures: Mapping[str, Sequence[Temperature]]) -> float | None:
    """The processor's highest temperature; None where no sensor of it tells one that can be."""
    lowest, highest = _PLAUSIBLE_CELSIUS
    for names in (_CPU_SENSORS[:-1], _CPU_SENSORS[-1:]):
        found = [each.current for name in names for each in temperatures.get(name, ()) if lowest <= each.current <= highest]
        if found:
            return max(found)
    return None


def gpus_celsius() -> float | None:
    """The highest temperature of the NVIDIA GPUs; None without any, and for those that don't tell."""
    try:
        with nvml_open() as nvml:
            handles = [nvml.told("DeviceGetHandleByIndex", index) for index in range(nvml.told("DeviceGetCount") or 0)]
            told = [nvml.told("DeviceGetTemperature", handle, ON_THE_CHIP) for handle in handles if handle is not None]
    except NvmlError:
        return None
    return max((float(celsius) for celsius in told if celsius is not None), default=None)


def cpu_percent() -> float | None:
    """Mean use of all cores since the last call; at the first one, since the machine was started."""
    busy = psutil.cpu_times_percent(interval=None)
    return min(100.0, max(0.0, 100.0 - busy.idle - getattr(busy, "iowait", 0.0)))


def gpus_percent() -> float | None:
    """Mean use of the NVIDIA GPUs at this moment; None without any, and for those that don't tell."""
    try:
        with nvml_open() as nvml:
            handles = [nvml.told("DeviceGetHandleByIndex", index) for index in range(nvml.told("DeviceGetCount") or 0)]
            told = [nvml.told("DeviceGetUtilizationRates", handle) for handle in handles if handle is not None]
    except NvmlError:
        return None
    found = [float(rates.gpu) for rates in told if rates is not None]
    return sum(found) / len(found) if found else None


def users_idle_seconds() -> float | None:
    """Since the last input of anybody who is logged in here; None when nobody is."""
    now = time.time()
    sessions = _logind_sessions()
    terminals = {user.terminal for user in psutil.users() if user.terminal} | {session.get("TTY", "") for session in sessions}
    found = [terminals_idle_seconds(terminals, now=now), desktops_idle_seconds(sessions, now=now)]
    return min((idle for idle in found if idle is not None), default=None)


def terminals_idle_seconds(terminals: Iterable[str], *, now: float, devices: Path = Path("/dev")) -> float | None:
    """Since somebody last typed into one of these (`pts/3`, `tty1`); the kernel keeps that as the time of access, to 8 seconds or so."""
    idle = []
    for name in terminals:
        if _TERMINAL.fullmatch(name):
            try:
                idle.append(max(0.0, now - (devices / name).stat().st_atime))
            except OSError:
                continue  # logged out meanwhile
    return min(idle, default=None)


def desktops_idle_seconds(sessions: Iterable[Mapping[str, str]], *, now: float) -> float | None:
    """By the idle hints of the graphical sessions of people, as `loginctl show-session` tells; None when there is none.

    A session that was never idle is in use, unless it is locked.
    """
    idle = []
    for session in sessions:
        if session.get("Type") not in {"x11", "wayland", "mir"} or session.get("Class") != "user" or session.get("State") == "closing":
            continue
        since = session.get("IdleSinceHint", "")
        if session.get("IdleHint") == "yes" and since not in _NO_PROPERTY:
            idle.append(max(0.0, now - int(since) / 1e6))
        elif session.get("IdleHint") == "no" and session.get("LockedHint") != "yes":
            idle.append(0.0)
    return min(idle, default=None)


def sessions_parse(text: str) -> list[dict[str, str]]:
    """The answer of `loginctl show-session ID...`: a block of `Name=value` lines a session, blocks apart by an empty line."""
    blocks = [[line.partition("=") for line in block.splitlines() if "=" in line] for block in text.split("\n\n")]
    return [{name: value for name, _, value in lines} for lines in blocks if lines]


def _logind_sessions() -> list[dict[str, str]]:
    """Empty where there is no logind."""
    program = shutil.which("loginctl")
    if program is None:
        return []
    listed = _output(program, "list-sessions", "--no-legend", "--no-pager")
    names = [line.split()[0] for line in listed.splitlines() if line.split()]
    return sessions_parse(_output(program, "show-session", "--no-pager", *names)) if names else []


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOGINCTL_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        log.debug("%s: %s", command[0], error)
        return ""
    return done.stdout if done.returncode == 0 else ""


def _temperatures() -> Mapping[str, Sequence[Temperature]]:
    # Not in every platform's psutil.
    return psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}


def _told(read: Callable[[], ReadT]) -> ReadT | None:
    """A sensor that fails tells nothing: manners are no reason for a worker to stop."""
    try:
        return read()
    except Exception as error:
        log.debug("a sensor can't be read: %s", error)
        return None
