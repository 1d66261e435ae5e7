"""Tier advice: who could take a job now, and the smallest tier that would do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.descriptor import Descriptor, descriptor_parse
from jobs.matching.requirements import tier_smallest
from jobs.matching.tier_advice import TierChance, tier_advice
from tests.factories.jobs import descriptor_make, job_make
from tests.factories.nodes import node_make, profile_make
from tests.factories.people import user_make
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.machine import Gpu, Tier

GB = 10**9


def descriptor(**fields: Any) -> Descriptor:
    return descriptor_parse(descriptor_make(**fields))


def node(tier: str, *, gpu_gb: int = 0, seconds: float = 5, **fields: Any) -> None:
    gpus = (Gpu(index=0, uuid="GPU-1", name="G", memory_bytes=gpu_gb * GB),) if gpu_gb else ()
    seen = timezone.now() - timedelta(seconds=seconds)
    node_make(user_make(), PrivateKey.generate(), tier=tier, profile=profile_make(gpus=gpus, cores=8), last_seen_at=seen, **fields)


def chance(tier: Tier, of: Descriptor) -> TierChance:
    return next(one for one in tier_advice(of).chances if one.tier == tier)


@pytest.mark.django_db
def test_nodes_of_higher_tiers_count_and_those_that_are_silent_or_too_small_do_not() -> None:
    node("cpu")
    node("cpu", seconds=600)
    node("cpu", state="paused")
    node("gpu-tier1", gpu_gb=8)
    node("gpu-tier2", gpu_gb=24)
    own = tier_advice(descriptor()).own
    assert (own.tier, own.online, own.fitting, own.is_enough) == (Tier.CPU, 3, 3, True)
    assert chance(Tier.CPU, descriptor(requirements={"cores": 64})).fitting == 0
    wide = descriptor(tier=1, requirements={"vram_gb": 10})
    assert (chance(Tier.GPU_TIER1, wide).online, chance(Tier.GPU_TIER1, wide).fitting) == (2, 1)
    assert chance(Tier.GPU_TIER1, descriptor(tier=1, requirements={"gpu_count": 2})).fitting == 0


@pytest.mark.django_db
def test_what_waits_is_counted_in_its_own_tier(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    job_make()
    with django_assert_num_queries(2):
        found = tier_advice(descriptor())
    assert [one.depth for one in found.chances] == [1, 0, 0, 0]
    assert found.own.oldest_wait_seconds is not None
    assert found.chances[1].oldest_wait_seconds is None


@pytest.mark.parametrize(
    ("fields", "smallest"),
    [
        ({}, Tier.CPU),
        ({"requirements": {"cores": 64, "ram_gb": 500}}, Tier.CPU),
        ({"tier": 3}, Tier.GPU_TIER1),
        ({"tier": 3, "requirements": {"vram_gb": 16}}, Tier.GPU_TIER2),
        ({"tier": 1, "requirements": {"vram_gb": 80}}, Tier.GPU_TIER3),
        ({"tier": 3, "requirements": {"vram_gb": 5000}}, None),
        ({"requirements": {"cores": 100_000}}, None),
    ],
)
def test_the_smallest_tier_goes_by_what_is_asked_for_not_by_the_tier_named(fields: dict[str, Any], smallest: Tier | None) -> None:
    assert tier_smallest(descriptor(**fields)) == smallest
