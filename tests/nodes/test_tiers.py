"""nodes/tiers.py: the floors, each from both sides, and what follows from a tier."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.tiers import TIER_FLOORS, queues_of, tier_classify
from tests.factories.nodes import profile_make
from workers.protocol.messages.machine import Gpu, Tier


def gpus_of(*sizes: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=i, uuid=f"GPU-{i}", name="Test", memory_bytes=size) for i, size in enumerate(sizes))


@pytest.mark.parametrize(
    ("gpu_memory_bytes", "tier"),
    [
        (0, Tier.CPU),
        (6 * 10**9 - 1, Tier.CPU),
        (6 * 10**9, Tier.GPU_TIER1),
        (16 * 10**9 - 1, Tier.GPU_TIER1),
        (16 * 10**9, Tier.GPU_TIER2),
        (40 * 10**9 - 1, Tier.GPU_TIER2),
        (40 * 10**9, Tier.GPU_TIER3),
        (192 * 10**9, Tier.GPU_TIER3),
    ],
)
def test_gpu_memory_at_each_floor(gpu_memory_bytes: int, tier: Tier) -> None:
    assert tier_classify(profile_make(gpus=gpus_of(gpu_memory_bytes))).tier is tier


def test_machine_without_gpu_is_cpu_and_hears_why() -> None:
    decision = tier_classify(profile_make())
    assert decision.tier is Tier.CPU
    assert decision.reasons[0] == "gpu-tier1 needs a GPU with 6 GB (there is none)"
    assert len(decision.reasons) == 3


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("floor", ["memory_bytes", "cores"])
def test_memory_and_cores_at_each_floor(tier: Tier, floor: str) -> None:
    least = TIER_FLOORS[tier]
    exact: dict[str, Any] = {
        "gpus": gpus_of(least.gpu_memory_bytes) if least.gpu_memory_bytes else (),
        "memory_bytes": least.memory_bytes,
        "cores": least.cores,
    }
    assert tier_classify(profile_make(**exact)).tier is tier
    below = exact[floor] - 1
    if below == 0:
        return  # no profile has zero cores: messages.machine.NodeProfile refuses it
    short = tier_classify(profile_make(**{**exact, floor: below}))
    assert short.tier is (Tier.of_rank(tier.rank - 1) if tier.rank else None)
    assert ("cores" if floor == "cores" else "of memory") in short.reasons[0]


def test_memory_of_several_gpus_does_not_add_up() -> None:
    assert tier_classify(profile_make(gpus=gpus_of(10 * 10**9, 10 * 10**9))).tier is Tier.GPU_TIER1


def test_largest_gpu_decides_wherever_it_stands() -> None:
    assert tier_classify(profile_make(gpus=gpus_of(6 * 10**9, 48 * 10**9, 0))).tier is Tier.GPU_TIER3


def test_machine_below_every_floor_has_no_tier() -> None:
    decision = tier_classify(profile_make(memory_bytes=2**29 - 1))
    assert decision.tier is None
    assert decision.reasons[0].startswith("cpu needs")


def test_queues_are_the_own_tier_first_then_those_below() -> None:
    assert queues_of(Tier.CPU) == (Tier.CPU,)
    assert queues_of(Tier.GPU_TIER2) == (Tier.GPU_TIER2, Tier.GPU_TIER1, Tier.CPU)


@given(
    gpu=st.integers(0, 2**40),
    memory=st.integers(1, 2**44),
    cores=st.integers(1, 4096),
    more=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 64)),
)
def test_more_of_anything_never_lowers_the_tier(gpu: int, memory: int, cores: int, more: tuple[int, int, int]) -> None:
    small = tier_classify(profile_make(gpus=gpus_of(gpu), memory_bytes=memory, cores=cores)).tier
    large = tier_classify(profile_make(gpus=gpus_of(gpu + more[0]), memory_bytes=memory + more[1], cores=min(4096, cores + more[2]))).tier
    assert small is None or (large is not None and large.rank >= small.rank)
