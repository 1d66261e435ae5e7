"""Whether any machine could run a job: its needs against what the tiers are. Pure.

1. A tier's class ends, in GPU memory, where the next one starts: who needs more belongs there.
2. Beyond the last tier, a table of what no single machine is expected to have.
3. Where a job fits another tier, the answer names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jobs.descriptor import Descriptor
from jobs.descriptor.model import GB
from nodes.tiers import TIER_FLOORS
from workers.protocol.messages.machine import Tier

GPU_COUNT_MAX: Final = 64
GPU_MEMORY_BYTES_MAX: Final = 1024 * GB
MEMORY_BYTES_MAX: Final = 32768 * GB
CORES_MAX: Final = 4096
DISK_BYTES_MAX: Final = 2**20 * GB

LARGEST: Final = Tier.GPU_TIER3


@dataclass(frozen=True)
class Shortfall:
    """One need that can't be met: the descriptor's field, what was asked and the most that can be had, in the field's unit."""

    field: str
    asked: float
    most: float
    tier: Tier | None
    """The tier whose class ends there; None: no machine has it."""

    def sentence(self) -> str:
        whose = f"a node of {self.tier}" if self.tier else "any machine"
        bound = "less than" if self.tier else "at most"
        return f"requirements.{self.field} is {self.asked:.6g}, {whose} has {bound} {self.most:.6g}"


def gpu_memory_ceiling(tier: Tier) -> int:
    """Bytes of memory of one GPU at which the class of `tier` ends; 0 for `cpu`."""
    if tier == Tier.CPU:
        return 0
    return GPU_MEMORY_BYTES_MAX if tier == LARGEST else TIER_FLOORS[Tier.of_rank(tier.rank + 1)].gpu_memory_bytes


def shortfalls_of(descriptor: Descriptor) -> list[Shortfall]:
    """Every need of the job that its tier, or any machine, can't meet; empty when it could run."""
    wanted = descriptor.gpu_memory_bytes
    tier = descriptor.tier_name
    found = []
    if wanted > GPU_MEMORY_BYTES_MAX:
        found.append(Shortfall("vram_gb", wanted / GB, GPU_MEMORY_BYTES_MAX / GB, None))
    elif tier != Tier.CPU and not _fits_class(wanted, tier):
        found.append(Shortfall("vram_gb", wanted / GB, gpu_memory_ceiling(tier) / GB, tier))
    # What one machine can have, whatever its tier.
    found += [
        Shortfall(field, asked, most, None)
        for field, asked, most in (
            ("gpu_count", descriptor.requirements.gpu_count or 0, GPU_COUNT_MAX),
            ("ram_gb", descriptor.memory_bytes / GB, MEMORY_BYTES_MAX / GB),
            ("cores", descriptor.cpus, CORES_MAX),
            ("disk_gb", descriptor.disk_bytes / GB, DISK_BYTES_MAX / GB),
        )
        if asked > most
    ]
    return found


def tier_fitting(descriptor: Descriptor) -> Tier | None:
    """The lowest tier from the job's own on whose class has GPUs of the size asked for; None when no tier has."""
    fitting = (tier for tier in Tier if tier.rank >= descriptor.tier and _fits_class(descriptor.gpu_memory_bytes, tier))
    return next(fitting, None)


def tier_smallest(descriptor: Descriptor) -> Tier | None:
    """The lowest tier of all that would do, whatever tier the job names; None when no machine is expected to have what it asks for."""
    if any(each.tier is None for each in shortfalls_of(descriptor)):
        return None
    if descriptor.gpus == 0 and descriptor.gpu_memory_bytes == 0:
        return Tier.CPU
    return next((tier for tier in Tier if tier != Tier.CPU and _fits_class(descriptor.gpu_memory_bytes, tier)), None)


def _fits_class(gpu_memory_bytes: int, tier: Tier) -> bool:
    ceiling = gpu_memory_ceiling(tier)
    return gpu_memory_bytes <= ceiling if tier == LARGEST else gpu_memory_bytes < ceiling
