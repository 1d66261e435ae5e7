"""Readings of the machine: real terminals, this machine's own sensors, and sensors of other machines as the kernel shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from workers.machine_reading import (
    LOGINCTL_SECONDS,
    cpu_celsius,
    desktops_idle_seconds,
    machine_read,
    sessions_parse,
    terminals_idle_seconds,
    users_idle_seconds,
)

NOW = 1_795_000_000.0


@dataclass
class Sensor:
    current: float


@contextmanager
def terminal() -> Iterator[tuple[int, int, str]]:
    """Both ends of a new terminal, and its name as utmp tells it."""
    keyboard, screen = os.openpty()
    try:
        yield keyboard, screen, os.ttyname(screen).removeprefix("/dev/")
    finally:
        os.close(keyboard)
        os.close(screen)


def test_this_machine_can_be_read() -> None:
    reading = machine_read(users=True, gpus=True)
    assert reading.local.tzinfo is not None
    assert reading.on_battery in {None, True, False}
    assert reading.idle_seconds is None or reading.idle_seconds >= 0
    for celsius in (reading.cpu_celsius, reading.gpu_celsius):
        assert celsius is None or 0 < celsius < 150


def test_typing_into_a_terminal_ends_its_idle_time() -> None:
    with terminal() as (keyboard, screen, name):
        os.utime(f"/dev/{name}", (time.time() - 3600, time.time()))
        idle = terminals_idle_seconds([name], now=time.time())
        assert idle is not None
        assert idle > 3590
        os.write(keyboard, b"ls\n")
        assert os.read(screen, 10) == b"ls\n"
        # The kernel keeps the time of access to 8 seconds or so, to spoil keystroke timing.
        idle = terminals_idle_seconds([name], now=time.time())
        assert idle is not None
        assert idle < 30


def test_output_on_a_terminal_is_no_user() -> None:
    with terminal() as (_, screen, name):
        os.utime(f"/dev/{name}", (time.time() - 3600, time.time()))
        os.write(screen, b"a program prints\n")
        idle = terminals_idle_seconds([name], now=time.time())
        assert idle is not None
        assert idle > 3590


def test_most_recently_used_terminal_counts() -> None:
    with terminal() as (_, _, first), terminal() as (_, _, second):
        for name, ago in ((first, 500), (second, 70)):
            os.utime(f"/dev/{name}", (time.time() - ago, time.time()))
        idle = terminals_idle_seconds([first, second], now=time.time())
        assert idle is not None
        assert 69 < idle < 80


@pytest.mark.parametrize("name", [":0", "", "pts/99999", "../etc/passwd", "tty/../null", "console\x00"])
def test_what_is_no_terminal_tells_nothing(name: str) -> None:
    assert terminals_idle_seconds([name], now=NOW) is None


DESKTOP = {"Type": "wayland", "Class": "user", "State": "active", "IdleHint": "no", "IdleSinceHint": "0", "LockedHint": "no"}
IDLE = DESKTOP | {"IdleHint": "yes", "IdleSinceHint": f"{(NOW - 120) * 1e6:.0f}"}


@pytest.mark.parametrize(
    ("sessions", "idle_seconds"),
    [
        ([DESKTOP], 0.0),
        ([IDLE], 120.0),
        ([IDLE, DESKTOP | {"Type": "x11"}], 0.0),
        ([DESKTOP | {"LockedHint": "yes"}], None),
        ([DESKTOP | {"Class": "greeter"}], None),
        ([DESKTOP | {"State": "closing"}], None),
        ([DESKTOP | {"Type": "tty"}], None),
        ([IDLE | {"IdleSinceHint": "18446744073709551615"}], None),
        ([{}], None),
        ([], None),
    ],
)
def test_desktops_by_their_idle_hint(sessions: list[dict[str, str]], idle_seconds: float | None) -> None:
    assert desktops_idle_seconds(sessions, now=NOW) == idle_seconds


def test_answer_of_loginctl_is_read_by_session() -> None:
    text = "Id=2\nType=wayland\nTTY=tty2\nName=ada\n\nId=7\nType=tty\nTTY=pts/0\nRemoteHost=\nDisplay==odd\n"
    assert sessions_parse(text) == [
        {"Id": "2", "Type": "wayland", "TTY": "tty2", "Name": "ada"},
        {"Id": "7", "Type": "tty", "TTY": "pts/0", "RemoteHost": "", "Display": "=odd"},
    ]
    assert sessions_parse("") == []


def loginctl_make(folder: Path, script: str) -> None:
    program = folder / "loginctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_logind_is_asked_for_desktops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "session").write_text("".join(f"{name}={value}\n" for name, value in DESKTOP.items()))
    listed, shown = 'echo "  c2 1000 ada seat0 tty2"', f'[ "$3" = c2 ] && cat {tmp_path}/session'
    loginctl_make(tmp_path, f'case "$1" in list-sessions) {listed};; show-session) {shown};; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert users_idle_seconds() == 0.0


def test_logind_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loginctl_make(tmp_path, "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    machine_read(users=True, gpus=False)
    assert time.monotonic() - began < LOGINCTL_SECONDS + 5


@pytest.mark.parametrize(
    ("temperatures", "celsius"),
    [
        ({"coretemp": [Sensor(48), Sensor(61.5), Sensor(55)], "nvme": [Sensor(84)]}, 61.5),
        ({"k10temp": [Sensor(70)], "acpitz": [Sensor(99)]}, 70),
        ({"acpitz": [Sensor(27.8)]}, 27.8),
        ({"coretemp": [Sensor(-273.15), Sensor(0), Sensor(255)]}, None),
        ({"nvme": [Sensor(60)], "iwlwifi_1": [Sensor(50)]}, None),
        ({}, None),
    ],
)
def test_processors_temperature_among_all_sensors(temperatures: dict[str, list[Sensor]], celsius: float | None) -> None:
    assert cpu_celsius(temperatures) == celsius


@pytest.mark.docker  # whoever may run an engine here may mount, which the sensors of another machine need
@pytest.mark.parametrize(("online", "on_battery"), [("1", False), ("0", True)])
def test_laptop_as_the_kernel_shows_it(tmp_path: Path, online: str, on_battery: bool) -> None:
    """A real /sys/class of a laptop, mounted over this machine's in a mount namespace of its own, read by a real psutil."""
    files = {
        "power_supply/AC0/online": online,
        "power_supply/BAT0/status": "Charging" if online == "1" else "Discharging",
        "power_supply/BAT0/energy_now": "30000000",
        "power_supply/BAT0/energy_full": "50000000",
        "power_supply/BAT0/power_now": "10000000",
        "power_supply/BAT0/capacity": "60",
        "hwmon/hwmon0/name": "coretemp",
        "hwmon/hwmon0/temp1_input": "93000",
        "hwmon/hwmon0/temp1_label": "Package id 0",
        "hwmon/hwmon1/name": "nvme",
        "hwmon/hwmon1/temp1_input": "101000",
    }
    for name, text in files.items():
        path = tmp_path / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    program = (
        "import json; from workers.machine_reading import machine_read; r = machine_read(users=False, gpus=False);"
        "print(json.dumps([r.on_battery, r.cpu_celsius, r.gpu_celsius]))"
    )
    script = 'mount --bind "$1" /sys/class && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path / "class"), sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [on_battery, 93.0, None]
