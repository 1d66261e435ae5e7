"""Checks of the machine: this one, and what others would show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workers.doctor.small_disk import FOLDER, checked_on_disk
from workers.doctor.findings import Level
from workers.doctor.machine import disk_check, gpu_check, python_check
from workers.protocol.messages.machine import Gpu

GIB = 2**30
A100 = Gpu(index=0, uuid="GPU-a", name="A100", memory_bytes=80 * GIB)
T4 = Gpu(index=1, uuid="GPU-t", name="T4", memory_bytes=16 * GIB)


def test_this_interpreter_will_do() -> None:
    finding = python_check()
    assert finding.level is Level.OK
    assert ".".join(map(str, sys.version_info[:3])) in finding.found


def test_older_python_is_told_what_to_install() -> None:
    finding = python_check((3, 10, 12))
    assert finding.level is Level.FAIL
    assert "Python 3.11 or later" in finding.advice


def test_disk_with_room_and_one_that_is_lent_beyond_it(tmp_path: Path) -> None:
    assert disk_check(tmp_path, lent_bytes=None, reserve_bytes=GIB).level is Level.OK
    assert disk_check(tmp_path, lent_bytes=2**20, reserve_bytes=GIB).level is Level.OK
    finding = disk_check(tmp_path, lent_bytes=2**60, reserve_bytes=GIB)
    assert finding.level is Level.WARN
    assert "disk_gib" in finding.advice


@pytest.mark.docker  # whoever may run an engine here may mount, which a small disk needs
def test_disk_without_room() -> None:
    program = (
        "from pathlib import Path; from workers.doctor.machine import disk_check;"
        f"finding = disk_check(Path({FOLDER!r}), lent_bytes=None, reserve_bytes=2**30); print(finding.level, finding.found)"
    )
    assert checked_on_disk(GIB // 2, program) == f"fail 0.5 GiB free under {FOLDER}"


@pytest.mark.parametrize(
    ("found", "joined_with", "runtimes", "level", "said"),
    [
        ((), (), ("runc",), Level.OK, "no NVIDIA GPU"),
        ((A100, T4), (A100, T4), ("runc", "nvidia"), Level.OK, "A100 (80 GiB), T4 (16 GiB)"),
        ((A100, T4), (), ("nvidia",), Level.OK, "A100"),
        ((A100,), (A100, T4), ("nvidia",), Level.FAIL, "joined with T4 too"),
        ((), (T4,), ("nvidia",), Level.FAIL, "none; the node joined with T4 too"),
        ((A100,), (A100,), ("runc",), Level.WARN, "no nvidia runtime"),
    ],
)
def test_gpus(found: Sequence[Gpu], joined_with: Sequence[Gpu], runtimes: tuple[str, ...], level: Level, said: str) -> None:
    finding = gpu_check(found, joined_with=joined_with, engine_runtimes=runtimes)
    assert finding.level is level
    assert said in finding.found
    assert bool(finding.advice) == (level is not Level.OK)
