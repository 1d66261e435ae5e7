"""Matching: which queued replicas a node may have now, and if none, why.

Rules:

1. A node is given replicas of its own tier first, then of the tiers below: hardware that few have is not spent on what anybody can do.
2. Within a tier: higher priority first, then older first. There is no fair share between researchers beyond that: whoever queued first
   is served first.
3. A replica fits when cores, memory, disk and GPUs that the host has free hold what it needs, each GPU with the memory asked for.
   Several are claimed by one statement; they are then packed in order into what is free (workers/protocol/room.py, as the host does
   itself), and what no longer fits is left.
4. One owner has at most one live lease or vote on a job (also a unique index). A node that failed a job is not given it again, unless
   it was only stopped (`host_stopped`: a host of a small fleet comes back); nor is an owner with whom OWNER_ATTEMPTS_MAX runs of it
   ended without a result: a job's attempts are not one owner's to use up.
5. A replica of a job that the contributor does not wish for (workers/protocol/wishes.py) is not offered. Wishes are held against kinds of
   jobs, of which there are few, and only queues of kinds that are wished for are looked into, however long the others are.
6. Only the oldest queued replica of a job is a candidate. So an exchange never claims two of one job, and two exchanges of one owner
   never claim two: the second replica becomes a candidate by the commit that also makes the owner's lease visible.
7. Nothing waits: rows and jobs that somebody else has locked are skipped, and looked at again shortly after (`TAKEN`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connection

from jobs.models import Job, Replica
from jobs.states import JOB_OPEN, REPLICA_EXCLUSIVE, ReplicaState
from nodes.models import Node, NodeState
from workers.protocol.messages import FailureCode, FreeResources, NoWork, Tier, Wishes
from workers.protocol.room import Need, NoRoomError, Room

OWNER_ATTEMPTS_MAX: Final = 3
"""Fewer than a job has attempts (NEXA_ATTEMPTS_MAX), more than one: an owner's only node may be cut off and come back."""

SAMPLE: Final = 200
"""How many queued replicas of a tier, in claim order, are looked at to say why none is given."""

TAKEN: Final = "taken_by_others"
"""Code of a refusal that is about a moment: something fits, and another exchange has it locked."""

EVERYTHING: Final = Wishes()

WINDOW: Final = 32
"""How many replicas beyond its slots an exchange with wishes considers, since others may have locked the first ones."""

_EXCLUSIVE: Final = sorted(state.value for state in REPLICA_EXCLUSIVE)

# The conditions of rules 3 to 6 on a queued replica `r`, as one list for the claim and for the reasons.
_FITS_CPUS: Final = "r.cpus <= %(cpus)s"
_FITS_MEMORY: Final = "r.memory_bytes <= %(memory_bytes)s"
_FITS_DISK: Final = "r.disk_bytes <= %(disk_bytes)s"
# Free GPUs are sorted by memory, largest first: n GPUs of m bytes are there when the n-th largest has m.
_FITS_GPUS: Final = "(r.gpus = 0 OR coalesce(r.gpu_memory_bytes <= (%(gpus)s::bigint[])[r.gpus], false))"
_IMAGE_WISHED: Final = "k.image_name LIKE ANY(%(images)s::text[])"
_TYPE_WISHED: Final = "k.job_type LIKE ANY(%(job_types)s::text[])"
_RATE_WISHED: Final = "k.credit_rate_micro >= %(credit_rate_min)s"
_KIND_WISHED: Final = f"{_RATE_WISHED} AND {_TYPE_WISHED} AND {_IMAGE_WISHED}"
_OWNER_FREE: Final = """NOT EXISTS (SELECT 1 FROM jobs_replica o
    WHERE o.job_id = r.job_id AND o.node_owner_id = %(owner)s AND o.state = ANY(%(exclusive)s))"""
_NOT_FAILED_HERE: Final = """(NOT EXISTS (SELECT 1 FROM jobs_replica f
    WHERE f.job_id = r.job_id AND f.node_id = %(node)s AND f.state = 'failed' AND f.failure_code <> %(stopped)s)
  AND NOT EXISTS (SELECT 1 FROM jobs_replica g
    WHERE g.job_id = r.job_id AND g.node_owner_id = %(owner)s AND g.state IN ('failed', 'expired') OFFSET %(attempts_spare)s))"""
_OLDEST_OF_JOB: Final = """NOT EXISTS (SELECT 1 FROM jobs_replica e
    WHERE e.job_id = r.job_id AND e.state = 'queued' AND (e.created_at, e.id) < (r.created_at, r.id))"""

# The constants above are the only text put together here; every value is a parameter.
_SUITS: Final = f"""r.state = 'queued' AND r.tier = %(tier)s
  AND {_FITS_CPUS} AND {_FITS_MEMORY} AND {_FITS_DISK} AND {_FITS_GPUS}
  AND {_OWNER_FREE} AND {_NOT_FAILED_HERE} AND {_OLDEST_OF_JOB}"""
_CLAIM: Final = f"""
SELECT r.id FROM jobs_replica r
WHERE {_SUITS}
ORDER BY r.priority DESC, r.created_at
LIMIT %(slots)s
FOR NO KEY UPDATE OF r SKIP LOCKED
"""  # noqa: S608  as said above
# The state is looked at again under the lock (_with_jobs): as a condition here, it would tempt a planner without statistics into the queue.
_CLAIM_WISHED: Final = f"""
SELECT r.id FROM jobs_replica r WHERE r.id = ANY(ARRAY(
  SELECT head.id FROM jobs_jobkind k CROSS JOIN LATERAL (
    SELECT r.id, r.priority, r.created_at FROM jobs_replica r
    WHERE r.kind_id = k.id AND {_SUITS}
    ORDER BY r.priority DESC, r.created_at, r.id LIMIT %(window)s) AS head
  WHERE {_KIND_WISHED}
  ORDER BY head.priority DESC, head.created_at LIMIT %(window)s))
ORDER BY r.priority DESC, r.created_at
LIMIT %(slots)s
FOR NO KEY UPDATE OF r SKIP LOCKED
"""  # noqa: S608  as said above
_REASONS: Final = f"""
SELECT count(*) AS seen,
       count(*) FILTER (WHERE NOT owner_free) AS owned,
       count(*) FILTER (WHERE NOT not_failed_here) AS failed,
       count(*) FILTER (WHERE NOT image_wished) AS images,
       count(*) FILTER (WHERE NOT type_wished) AS job_types,
       count(*) FILTER (WHERE NOT rate_wished) AS rates, max(credit_rate_micro) AS rate_max,
       count(*) FILTER (WHERE NOT (image_wished AND type_wished AND rate_wished)) AS unwished,
       count(*) FILTER (WHERE NOT fits_cpus) AS cpus, min(cpus) AS cpus_min,
       count(*) FILTER (WHERE NOT fits_memory) AS memory, min(memory_bytes) AS memory_min,
       count(*) FILTER (WHERE NOT fits_disk) AS disk, min(disk_bytes) AS disk_min,
       count(*) FILTER (WHERE NOT fits_gpus) AS gpus,
       count(*) FILTER (WHERE owner_free AND not_failed_here AND image_wished AND type_wished AND rate_wished
                          AND fits_cpus AND fits_memory AND fits_disk AND fits_gpus) AS available,
       (SELECT array_agg(DISTINCT q.tier::text) FROM
         (SELECT t.tier FROM unnest(%(all_tiers)s::text[]) AS t(tier) WHERE NOT t.tier = ANY(%(tiers)s)
            AND EXISTS (SELECT 1 FROM jobs_replica x WHERE x.state = 'queued' AND x.tier = t.tier)) q) AS elsewhere
FROM unnest(%(tiers)s::text[]) AS wanted(tier) CROSS JOIN LATERAL (
  SELECT r.cpus, r.memory_bytes, r.disk_bytes, k.credit_rate_micro, {_OWNER_FREE} AS owner_free, {_NOT_FAILED_HERE} AS not_failed_here,
         {_FITS_CPUS} AS fits_cpus, {_FITS_MEMORY} AS fits_memory, {_FITS_DISK} AS fits_disk, {_FITS_GPUS} AS fits_gpus,
         {_IMAGE_WISHED} AS image_wished, {_TYPE_WISHED} AS type_wished, {_RATE_WISHED} AS rate_wished
  FROM jobs_replica r JOIN jobs_jobkind k ON k.id = r.kind_id WHERE r.state = 'queued' AND r.tier = wanted.tier
  ORDER BY r.priority DESC, r.created_at LIMIT {SAMPLE}) AS head
"""  # noqa: S608  as said above


@dataclass(frozen=True)
class Claim:
    """A replica and its job, both locked by the transaction that claimed them."""

    replica: Replica
    job: Job


def queues_served(*, node: Node, wanted: Sequence[Tier]) -> list[Tier]:
    """The tiers that a node may be given work of now: those it asks for, of those it may serve, its own first."""
    return [Tier(queue) for queue in node.queues if Tier(queue) in wanted]


def replicas_claim(*, node: Node, tiers: Sequence[Tier], free: FreeResources, wishes: Wishes) -> list[Claim]:
    """Locks and returns up to `free.slots` replicas that fit together, in the order of rules 1 and 2; `[]` when there are none.

    Needs a transaction; the caller takes the leases and commits. One statement for each tier, and one for the jobs.
    """
    room = Room(free)
    claims: list[Claim] = []
    for tier in tiers:
        if room.slots == 0:
            break
        with connection.cursor() as cursor:
            parameters = {**_parameters(node, room, wishes), "tier": tier.value, "slots": room.slots, "window": room.slots + WINDOW}
            cursor.execute(_CLAIM if wishes == EVERYTHING else _CLAIM_WISHED, parameters)
            found = [row[0] for row in cursor.fetchall()]
        if found:
            claims += [claim for claim in _with_jobs(found) if _packed(room, claim.replica)]
    return claims


def no_work_reason(*, node: Node, wanted: Sequence[Tier], free: FreeResources, wishes: Wishes) -> NoWork:
    """Why an exchange brings no order, by at most one query; true of the first SAMPLE queued replicas of each tier."""
    match NodeState(node.state):
        case NodeState.PAUSED:
            return NoWork(code="node_paused", message="This node is paused. Resume it on its page in the portal.")
        case NodeState.QUARANTINED:
            message = "This node is quarantined: a moderator looks at its results. Its page in the portal says more."
            return NoWork(code="node_quarantined", message=message)
        case NodeState.REVOKED:
            return NoWork(code="node_revoked", message="This node was revoked. Remove its home and join with a new token.")
        case NodeState.ACTIVE:
            pass
    tiers = queues_served(node=node, wanted=wanted)
    if not tiers:
        asked, may = ", ".join(wanted), ", ".join(node.queues)
        return NoWork(code="queue_not_served", message=f"This node asked for {asked}; by its profile it serves {may}.")
    with connection.cursor() as cursor:
        cursor.execute(
            _REASONS,
            {
                **_parameters(node, Room(free), wishes),
                "tiers": [tier.value for tier in tiers],
                "all_tiers": [tier.value for tier in Tier],
            },
        )
        row = cursor.fetchone() or ()
        found = {column.name: value for column, value in zip(cursor.description, row, strict=True)}
    return _reason_of(found, ", ".join(tiers), free, wishes)


def _reason_of(found: Mapping[str, Any], names: str, free: FreeResources, wishes: Wishes) -> NoWork:
    """`found` is the row of _REASONS; `names` are the tiers looked at."""
    seen = found["seen"]
    of = f"Of {seen} queued for {names}"
    if seen == 0:
        elsewhere = ", ".join(sorted(found["elsewhere"] or ()))
        others = f" Jobs are queued for {elsewhere}, which this node does not serve or ask for." if elsewhere else ""
        return NoWork(code="no_jobs_queued", message=f"No job is queued for {names}.{others}")
    if found["available"]:
        return NoWork(code=TAKEN, message="What is queued and fits is being given to other nodes at this moment.")
    if found["owned"] == seen:
        message = f"{of}, all are of jobs of which your nodes run or ran a copy: the other copies go to other owners."
        return NoWork(code="owner_has_vote", message=message)
    if found["failed"] == seen:
        message = f"{of}, all are of jobs that failed on this node before, or too often with you."
        return NoWork(code="failed_here", message=message)
    counted = {
        "images": "are of images that this host does not allow",
        "job_types": "are of job types that this host does not allow",
        "rates": f"offer less than the {wishes.credit_rate_min:g} credits that this host asks for (the most: {found['rate_max'] / 1e6:g})",
        "cpus": f"need more than the {free.cpus:g} free cores (the least: {found['cpus_min']:g})",
        "memory": f"need more than the {_gib(free.memory_bytes)} of free memory (the least: {_gib(found['memory_min'])})",
        "disk": f"need more than the {_gib(free.disk_bytes)} of free disk (the least: {_gib(found['disk_min'])})",
        "gpus": f"need more or larger GPUs than the {len(free.gpus)} free ones",
        "owned": "have a copy on another of your nodes",
        "failed": "failed here before",
    }
    parts = "; ".join(f"{found[name]} {what}" for name, what in counted.items() if found[name])
    message = f"{of}: {parts}."[:500]
    if found["unwished"] == seen:
        return NoWork(code="none_wished", message=message)
    return NoWork(code="none_fits", message=message)


def _packed(room: Room, replica: Replica) -> bool:
    """Whether the replica fits beside what was packed before; if so, it is packed too."""
    need = Need(replica.cpus, replica.memory_bytes, replica.disk_bytes, replica.gpus, replica.gpu_memory_bytes)
    try:
        room.take(need)
    except NoRoomError:
        return False
    return True


def _with_jobs(replica_ids: Sequence[UUID]) -> list[Claim]:
    """The locked replicas that are still queued and whose open jobs could be locked too, in the given order. Others stay as they are."""
    replicas = Replica.objects.filter(state=ReplicaState.QUEUED).in_bulk(replica_ids)
    job_ids = {replica.job_id for replica in replicas.values()}
    open_states = sorted(state.value for state in JOB_OPEN)
    jobs = {
        job.pk: job for job in Job.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=job_ids, state__in=open_states)
    }
    claims = []
    for replica_id in replica_ids:
        replica = replicas.get(replica_id)
        if replica is not None and replica.job_id in jobs:
            replica.job = jobs[replica.job_id]
            claims.append(Claim(replica=replica, job=replica.job))
    return claims


def _parameters(node: Node, room: Room, wishes: Wishes) -> dict[str, Any]:
    return {
        "owner": node.owner_id,
        "node": node.pk,
        "exclusive": _EXCLUSIVE,
        "attempts_spare": OWNER_ATTEMPTS_MAX - 1,
        "stopped": FailureCode.HOST_STOPPED.value,
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


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
