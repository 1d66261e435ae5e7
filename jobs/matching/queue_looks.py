"""Looks into the queue: which replicas suit a node, in the order in which they are given. Reads only; claiming them is claims.py.

All that says whether a replica suits a host (kind, needs, who is barred from it) makes its class, `Replica.queue_key`. Replicas of one
class suit the same hosts, so a look decides about classes, of which there are few, and not about replicas, of which there may be any
number:

1. The near look: the first few in order. Where queues are mixed it finds enough, and no other look is taken.
2. The far look: the first of each class, found by one step down an index for each class; of the classes that suit, the first replicas.
   It is taken where the near look has found too few: whatever fills the front of the queue, a claim costs what its classes cost.
3. A far look takes at most 2 * CLASSES_MAX classes of a tier, in the order of their keys, which are digests, from a random one on. So with
   more classes than that each is looked at by and by, and the order of priority and age holds among those looked at.
"""

from __future__ import annotations

import uuid
from typing import Any, Final
from uuid import UUID

from django.db import connection

from nodes.models import Node
from workers.protocol.messages.exchange import Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.room import Room

NEAR: Final = 200
"""How many replicas a near look sees beyond those that are wanted."""

CLASSES_MAX: Final = 2000
"""Of each of the two arcs of a far look."""

# The conditions of matching, on a queued replica or the first of a class as `r`, with its kind as `k`. The constants are the only text
# put together here; every value is a parameter.
NOT_BARRED: Final = "(NOT %(owner)s = ANY(r.barred) AND NOT %(node)s = ANY(r.failed_nodes))"
KIND_OPEN: Final = "coalesce(k.closed_until <= now(), true)"
IMAGE_WISHED: Final = "k.image_name LIKE ANY(%(images)s::text[])"
TYPE_WISHED: Final = "k.job_type LIKE ANY(%(job_types)s::text[])"
RATE_WISHED: Final = "k.credit_rate_micro >= %(credit_rate_min)s"
FITS_CPUS: Final = "r.cpus <= %(cpus)s"
FITS_MEMORY: Final = "r.memory_bytes <= %(memory_bytes)s"
FITS_DISK: Final = "r.disk_bytes <= %(disk_bytes)s"
# Free GPUs are sorted by memory, largest first: n GPUs of m bytes are there when the n-th largest has m.
FITS_GPUS: Final = "(r.gpus = 0 OR coalesce(r.gpu_memory_bytes <= (%(gpus)s::bigint[])[r.gpus], false))"
KIND_SUITS: Final = f"{KIND_OPEN} AND {RATE_WISHED} AND {TYPE_WISHED} AND {IMAGE_WISHED}"
SUITS: Final = f"{NOT_BARRED} AND {FITS_CPUS} AND {FITS_MEMORY} AND {FITS_DISK} AND {FITS_GPUS} AND {KIND_SUITS}"

_NEXT_OF_JOB: Final = "state = 'queued' AND queue_key IS NOT NULL"
_ORDER: Final = "r.priority DESC, r.created_at, r.id"

_NEAR: Final = f"""
SELECT count(*), coalesce(array_agg(r.id ORDER BY {_ORDER}) FILTER (WHERE {SUITS}), '{{}}')
FROM (SELECT * FROM jobs_replica r WHERE {_NEXT_OF_JOB} AND tier = %(tier)s ORDER BY {_ORDER} LIMIT %(near)s) r
JOIN jobs_jobkind k ON k.id = r.kind_id
"""  # noqa: S608  as said above

_FIRST_OF_CLASS: Final = f"""
SELECT r.tier, r.queue_key, r.id, r.priority, r.created_at, r.kind_id, r.cpus, r.memory_bytes, r.disk_bytes, r.gpus, r.gpu_memory_bytes,
       r.barred, r.failed_nodes
FROM jobs_replica r WHERE {_NEXT_OF_JOB} AND r.tier = %s AND r.queue_key > %s AND r.queue_key <= %s
ORDER BY r.queue_key, {_ORDER} LIMIT 1
"""  # noqa: S608  as said above

CLASSES: Final = f"""
class AS (
  SELECT arc.high, 1 AS number, first.*
  FROM unnest(%(tiers)s::text[]) AS wanted(tier)
  CROSS JOIN (VALUES (%(start)s::uuid, '{UUID(int=2**128 - 1)}'::uuid), ('{UUID(int=0)}', %(start)s)) AS arc(low, high)
  CROSS JOIN LATERAL ({_FIRST_OF_CLASS % ("wanted.tier", "arc.low", "arc.high")}) AS first
  UNION ALL
  SELECT class.high, class.number + 1, next.*
  FROM class CROSS JOIN LATERAL ({_FIRST_OF_CLASS % ("class.tier", "class.queue_key", "class.high")}) AS next
  WHERE class.number < {CLASSES_MAX}
)
"""  # noqa: S608  as said above
"""Of a WITH RECURSIVE: the first replica of each class of the tiers `tiers`, beginning behind the key `start`."""

# A range of one key, sorted by the key too: only the index of classes serves that. By equality, a planner whose statistics don't know the
# key may read the whole queue in its order instead.
_FAR: Final = f"""
WITH RECURSIVE {CLASSES}, suited AS (
  SELECT r.* FROM class r JOIN jobs_jobkind k ON k.id = r.kind_id WHERE {SUITS} ORDER BY {_ORDER} LIMIT %(count)s
)
SELECT r.id FROM suited CROSS JOIN LATERAL (
  SELECT r.id, r.priority, r.created_at FROM jobs_replica r
  WHERE {_NEXT_OF_JOB} AND r.tier = suited.tier AND r.queue_key >= suited.queue_key AND r.queue_key <= suited.queue_key
  ORDER BY r.queue_key, {_ORDER} LIMIT %(count)s) r
ORDER BY {_ORDER} LIMIT %(count)s
"""  # noqa: S608  as said above


def suited_find(*, parameters: dict[str, Any], tier: Tier, wanted: int, spare: int) -> list[UUID]:
    """Up to `wanted + spare` queued replicas of a tier that suit, in the order in which they are given. Locks nothing.

    Fewer than `wanted` only if there are no more, or too many classes. Beyond that, `spare` is what the look happens to see.
    `parameters`: those of `look_parameters`.
    """
    near, count = wanted + max(NEAR, spare), wanted + spare
    with connection.cursor() as cursor:
        cursor.execute(_NEAR, {**parameters, "tier": tier.value, "near": near})
        [(seen, found)] = cursor.fetchall()
        if len(found) < wanted and seen == near:
            cursor.execute(_FAR, {**parameters, "tiers": [tier.value], "start": uuid.uuid4(), "count": count})
            found = [row[0] for row in cursor.fetchall()]
    return list(found[:count])


def look_parameters(*, node: Node, room: Room, wishes: Wishes) -> dict[str, Any]:
    """What the conditions of a look are about: who asks, what is free there, and what is wished for."""
    return {
        "owner": node.owner_id,
        "node": node.pk,
        "cpus": room.cpus,
        # What a host says may exceed what the column holds; more than that much is free is all the same.
        "memory_bytes": min(room.memory_bytes, 2**63 - 1),
        "disk_bytes": min(room.disk_bytes, 2**63 - 1),
        "gpus": [min(gpu.memory_bytes, 2**63 - 1) for gpu in reversed(room.gpus)],
        "images": [like_of(pattern) for pattern in wishes.images],
        "job_types": [like_of(pattern) for pattern in wishes.job_types],
        "credit_rate_min": wishes.credit_rate_min_micro,
    }


def like_of(pattern: str) -> str:
    """A Pattern as SQL's LIKE: `*` is any characters; `_`, the one of its characters that LIKE would take for more, stands for itself."""
    return pattern.replace("_", r"\_").replace("*", "%")
