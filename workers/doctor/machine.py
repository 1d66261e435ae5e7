"""Checks of the machine itself: Python, disk, GPUs."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from workers.doctor.findings import Finding, fail, ok, warn
from workers.protocol.messages.machine import Gpu

PYTHON_MIN: Final = (3, 11)

_GIB: Final = 2**30


def python_check(found: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """The interpreter that this command runs with, and so does the worker."""
    version = ".".join(map(str, found))
    if found[:2] < PYTHON_MIN:
        return fail("python", f"Python {version}", f"Install Python {'.'.join(map(str, PYTHON_MIN))} or later, and NEXAPod with it.")
    return ok("python", f"{platform.python_implementation()} {version}")


def disk_check(home_folder: Path, *, lent_bytes: int | None, reserve_bytes: int) -> Finding:
    """The disk under the node home; `lent_bytes` is what node.toml lets runs use, None before joining, `reserve_bytes` what stays free."""
    free_bytes = shutil.disk_usage(home_folder).free
    found = f"{free_bytes / _GIB:.1f} GiB free under {home_folder}"
    if free_bytes <= reserve_bytes:
        advice = f"Make room, or move the node home: {reserve_bytes / _GIB:g} GiB stay free for the machine, so there is nothing to lend."
        return fail("disk", found, advice)
    if lent_bytes is not None and free_bytes < lent_bytes + reserve_bytes:
        return warn("disk", f"{found}, but {lent_bytes / _GIB:.1f} GiB lent", "Make room, or lower `disk_gib` in node.toml.")
    return ok("disk", found)


def gpu_check(found: Sequence[Gpu], *, joined_with: Sequence[Gpu], engine_runtimes: Collection[str]) -> Finding:
    """The NVIDIA GPUs that NVML tells of, beside those that the node joined with, and whether the engine can hand one out."""
    if not found and not joined_with:
        return ok("gpu", "no NVIDIA GPU; this node serves the cpu queue")
    names = ", ".join(f"{gpu.name} ({gpu.memory_bytes / _GIB:.0f} GiB)" for gpu in found) or "none"
    known = {gpu.uuid for gpu in found}
    lost = [gpu for gpu in joined_with if gpu.uuid not in known]
    if lost:
        advice = "Look at `nvidia-smi`: a driver that was upgraded needs a restart of the machine. Taken out for good: leave, join anew."
        return fail("gpu", f"{names}; the node joined with {lost[0].name} too, which is gone", advice)
    if "nvidia" not in engine_runtimes:
        advice = "Install the NVIDIA Container Toolkit and restart the engine; without it containers get no GPU."
        return warn("gpu", f"{names}; the engine names no nvidia runtime", advice)
    return ok("gpu", names)
