"""Which tiers could take a job now: nodes whose profiles suffice, what waits there, and the smallest tier that would do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from jobs.descriptor import Descriptor
from jobs.matching.requirements import tier_smallest
from jobs.selectors import SEEN_SECONDS, queues_waiting
from workers.protocol.messages.machine import Tier

_NODES: Final = """
SELECT tier, count(*), count(*) FILTER (WHERE (profile->>'memory_bytes')::numeric >= %(memory_bytes)s
  AND (profile->>'cores')::numeric >= %(cpus)s
  AND (SELECT count(*) FROM jsonb_array_elements(profile->'gpus') gpu
       WHERE (gpu->>'memory_bytes')::numeric >= %(gpu_memory_bytes)s) >= %(gpus)s)
FROM nodes_node WHERE state = 'active' AND last_seen_at >= %(since)s GROUP BY tier
"""


@dataclass(frozen=True)
class TierChance:
    """One tier as the job's own. Nodes of higher tiers serve it too, and are counted."""

    tier: Tier
    is_own: bool
    is_enough: bool
    """Whether its class has what the job asks for."""
    online: int
    fitting: int
    """Of those online, nodes whose profiles have the memory, cores and GPUs."""
    depth: int
    oldest_wait_seconds: float | None


@dataclass(frozen=True)
class TierAdvice:
    """`smallest` None: no tier's class is enough."""

    chances: tuple[TierChance, ...]
    smallest: Tier | None

    @property
    def own(self) -> TierChance:
        return next(chance for chance in self.chances if chance.is_own)


def tier_advice(descriptor: Descriptor) -> TierAdvice:
    """Two statements, however many nodes and replicas. Free disk and contributors' wishes are known only when a host asks for work."""
    smallest = tier_smallest(descriptor)
    queues = queues_waiting()
    parameters: dict[str, float | datetime] = {
        "memory_bytes": descriptor.memory_bytes,
        "cpus": descriptor.cpus,
        "gpus": descriptor.gpus,
        "gpu_memory_bytes": descriptor.gpu_memory_bytes,
        "since": timezone.now() - timedelta(seconds=SEEN_SECONDS),
    }
    with connection.cursor() as cursor:
        cursor.execute(_NODES, parameters)
        nodes = {Tier(tier): (online, fitting) for tier, online, fitting in cursor.fetchall()}
    chances = []
    for tier in Tier:
        serving = [nodes[other] for other in Tier if other.rank >= tier.rank and other in nodes]
        chances.append(
            TierChance(
                tier=tier,
                is_own=tier == descriptor.tier_name,
                is_enough=smallest is not None and tier.rank >= smallest.rank,
                online=sum(online for online, _ in serving),
                fitting=sum(fitting for _, fitting in serving),
                depth=queues[tier]["depth"],
                oldest_wait_seconds=queues[tier]["oldest_wait_seconds"],
            )
        )
    return TierAdvice(tuple(chances), smallest)
