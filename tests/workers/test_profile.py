"""What a machine says of itself; GPUs through a stub of NVML's library, loaded in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workers.profile import machine_profile
from workers.protocol.messages import EngineProfile
from workers.protocol.version import SOFTWARE_VERSION

ENGINE = EngineProfile(name="docker", version="1", cgroup_version="2", rootless=False)

STUB = r"""
#include <string.h>
#include <stdio.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int ids[3] = {0, 1, 2};
int nvmlInit_v2(void) { return INIT; }
int nvmlInitWithFlags(unsigned int flags) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "stub"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "550.1", length); return 0; }
#ifdef COUNT
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = COUNT; return 0; }
#endif
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = &ids[index]; return 0; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned int length) {
  if (*(int *)handle == BROKEN) return 15;
  snprintf(text, length, "GPU-%d", *(int *)handle); return 0; }
#ifdef NAMES
int nvmlDeviceGetName(void *handle, char *text, unsigned int length) { snprintf(text, length, "Stub %d", *(int *)handle); return 0; }
#endif
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) { memory->total = (8ULL << 30) * (1 + *(int *)handle); return 0; }
"""

SCRIPT = "import json; from workers.gpus import gpus_found; print(json.dumps([gpu.model_dump() for gpu in gpus_found()]))"


def _gpus(folder: Path, **defines: int) -> list[dict[str, object]]:
    environment = dict(os.environ)
    if defines:
        (folder / "stub.c").write_text(STUB)
        options = [f"-D{name}={value}" for name, value in ({"INIT": 0, "BROKEN": -1} | defines).items()]
        subprocess.run(["cc", "-shared", "-fPIC", *options, "-o", "libnvidia-ml.so.1", "stub.c"], cwd=folder, check=True)
        environment["LD_LIBRARY_PATH"] = str(folder)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=60)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_unequal_gpus_are_told_by_uuid_and_memory(tmp_path: Path) -> None:
    found = _gpus(tmp_path, COUNT=3, NAMES=1)
    assert [(gpu["index"], gpu["uuid"], gpu["name"]) for gpu in found] == [(n, f"GPU-{n}", f"Stub {n}") for n in range(3)]
    assert [gpu["memory_bytes"] for gpu in found] == [8 << 30, 16 << 30, 24 << 30]
    assert found[0]["driver_version"] == "550.1"


def test_gpu_whose_uuid_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    assert [gpu["uuid"] for gpu in _gpus(tmp_path, COUNT=3, NAMES=1, BROKEN=1)] == ["GPU-0", "GPU-2"]


def test_library_without_names_still_gives_gpus(tmp_path: Path) -> None:
    assert [gpu["name"] for gpu in _gpus(tmp_path, COUNT=2)] == ["unknown", "unknown"]


@pytest.mark.parametrize("defines", [{"INIT": 9, "COUNT": 2}, {"NAMES": 1}, {"COUNT": 0}], ids=["no_driver", "no_count", "none"])
def test_nvml_that_fails_means_no_gpus(tmp_path: Path, defines: dict[str, int]) -> None:
    assert _gpus(tmp_path, **defines) == []


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
