"""Which tier a machine belongs to, and which queues it may serve. Pure.

Rules:

1. A machine's tier is the highest whose floors it meets, all of them: memory of its largest single GPU (a job is given
   whole GPUs, memory doesn't add up), main memory, cores.
2. GPU memory is counted in decimal gigabytes: drivers keep some of it, so a card sold as 16 GB reports less than 16 GiB.
   A GPU tier also wants enough main memory and cores to feed the GPU.
3. A node serves its own tier and those below, its own first.
4. A machine below the floors of `cpu` has no tier.
5. The profile is the host's claim. It decides which work a node is offered, never what it is paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from workers.protocol.messages.machine import NodeProfile, Tier
from workers.protocol.plurals import counted

GIGABYTE: Final = 10**9
GIBIBYTE: Final = 2**30


@dataclass(frozen=True)
class TierFloor:
    """The least that a machine of a tier has. `gpu_memory_bytes` 0: no GPU is needed."""

    gpu_memory_bytes: int
    memory_bytes: int
    cores: int


TIER_FLOORS: Final[Mapping[Tier, TierFloor]] = MappingProxyType(
    {
        Tier.CPU: TierFloor(gpu_memory_bytes=0, memory_bytes=GIBIBYTE // 2, cores=1),
        Tier.GPU_TIER1: TierFloor(gpu_memory_bytes=6 * GIGABYTE, memory_bytes=8 * GIGABYTE, cores=2),
        Tier.GPU_TIER2: TierFloor(gpu_memory_bytes=16 * GIGABYTE, memory_bytes=16 * GIGABYTE, cores=4),
        Tier.GPU_TIER3: TierFloor(gpu_memory_bytes=40 * GIGABYTE, memory_bytes=32 * GIGABYTE, cores=8),
    }
)


@dataclass(frozen=True)
class TierDecision:
    """`tier` is None below every floor. `reasons` say why it is not a higher one, a sentence each, next tier first."""

    tier: Tier | None
    reasons: tuple[str, ...]


def tier_classify(profile: NodeProfile) -> TierDecision:
    """The highest tier whose floors the profile meets, and what is missing for those above it."""
    reasons: list[str] = []
    for tier in reversed(Tier):
        missing = _missing(profile, TIER_FLOORS[tier])
        if not missing:
            return TierDecision(tier, tuple(reasons))
        reasons.insert(0, f"{tier} needs {' and '.join(missing)}")
    return TierDecision(None, tuple(reasons))


def queues_of(tier: Tier) -> tuple[Tier, ...]:
    """The tiers that a node of `tier` may serve: its own first, then those below, down to `cpu`."""
    return tuple(reversed(list(Tier)[: tier.rank + 1]))


def _missing(profile: NodeProfile, floor: TierFloor) -> list[str]:
    """What the profile lacks to meet `floor`, as parts of a sentence."""
    gpu_memory_bytes = max((gpu.memory_bytes for gpu in profile.gpus), default=0)
    missing = []
    if gpu_memory_bytes < floor.gpu_memory_bytes:
        found = f"the largest has {_gigabytes(gpu_memory_bytes)}" if profile.gpus else "there is none"
        missing.append(f"a GPU with {_gigabytes(floor.gpu_memory_bytes)} ({found})")
    if profile.memory_bytes < floor.memory_bytes:
        missing.append(f"{_gigabytes(floor.memory_bytes)} of memory (there are {_gigabytes(profile.memory_bytes)})")
    if profile.cores < floor.cores:
        missing.append(f"{counted(floor.cores, 'core')} (found: {profile.cores})")
    return missing


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / GIGABYTE:.4g} GB"
