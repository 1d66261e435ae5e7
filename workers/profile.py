"""What this machine says it is: processor, memory, disk, GPUs, engine, and the benchmark."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path

import psutil

from workers.benchmark import benchmark_gflops
from workers.gpus import gpus_found
from workers.protocol.messages.machine import EngineProfile, NodeProfile
from workers.protocol.version import SOFTWARE_VERSION

_CPU_FILE = Path("/proc/cpuinfo")


def machine_profile(engine: EngineProfile, *, work_folder: Path | None = None, gflops: float | None = None) -> NodeProfile:
    """The profile of this machine; takes up to two seconds unless `gflops` is known already.

    `work_folder` lies on the disk that runs will use (None: the user's home); it need not exist yet.
    """
    return NodeProfile(
        hostname_hint=socket.gethostname()[:200],
        os=_os_name()[:200],
        architecture=platform.machine(),
        cpu_model=_cpu_model()[:200],
        cores=_cores(),
        memory_bytes=psutil.virtual_memory().total,
        disk_free_bytes=shutil.disk_usage(_existing(work_folder or Path.home())).free,
        gpus=gpus_found(),
        engine=engine,
        benchmark_gflops=benchmark_gflops() if gflops is None else gflops,
        software_version=SOFTWARE_VERSION,
    )


def _cores() -> int:
    """Cores that this process may use, which a cpuset makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return psutil.cpu_count() or 1


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True) or "unknown"


def _cpu_model() -> str:
    if _CPU_FILE.exists():
        for line in _CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"model name", "Model"}:
                return value.strip()
    return platform.processor() or "unknown"
