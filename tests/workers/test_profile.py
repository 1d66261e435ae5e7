"""What a machine says of itself; its GPUs have tests of their own (test_gpus.py)."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from workers.profile import machine_profile
from workers.protocol.messages.machine import EngineProfile
from workers.protocol.version import SOFTWARE_VERSION

ENGINE = EngineProfile(name="docker", version="1", cgroup_version="2", rootless=False)


def test_profile_tells_this_machine(tmp_path: Path) -> None:
    profile = machine_profile(ENGINE, work_folder=tmp_path / "not" / "there" / "yet", gflops=1.5)
    assert profile.memory_bytes == psutil.virtual_memory().total
    assert 1 <= profile.cores <= (os.cpu_count() or 1)
    assert (profile.engine, profile.benchmark_gflops) == (ENGINE, 1.5)
    assert 0 < profile.disk_free_bytes < psutil.disk_usage(str(tmp_path)).total
    assert profile.cpu_model
    assert profile.os


def test_profile_names_the_version_of_this_software(tmp_path: Path) -> None:
    assert machine_profile(ENGINE, work_folder=tmp_path, gflops=1.5).software_version == SOFTWARE_VERSION
