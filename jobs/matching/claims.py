"""Matching: which queued replicas a node may have now. Why it gets none is told by jobs/matching/no_work.py.

Rules:

1. A node is given replicas of its own tier first, then of the tiers below: hardware that few have is not spent on what anybody can do.
2. Within a tier: higher priority first, then older first. There is no fair share between researchers beyond that: whoever queued first
   is served first. (A tier with thousands of classes of replicas is looked at in parts: jobs/matching/queue_looks.py, rule 3.)
3. A replica fits when cores, memory, disk and GPUs that the host has free hold what it needs, each GPU with the memory asked for.
   Several are claimed by one statement; they are then packed in order into what is free (workers/protocol/room.py, as the host does
   itself), and what no longer fits is left.
4. One owner has at most one live lease or vote on a job (also a unique index). A node that failed a job is not given it again, unless
   it was only stopped (`host_stopped`: a host of a small fleet comes back); nor is an owner with whom OWNER_ATTEMPTS_MAX runs of it
   ended without a result: a job's attempts are not one owner's to use up.
5. A replica of a job that the contributor does not wish for (workers/protocol/wishes.py) is not offered, nor one of a kind that is closed
   (`JobKind.closed_until`).
6. Only the next queued replica of a job, the oldest, is a candidate. So an exchange never claims two of one job, and two exchanges of one
   owner never claim two: the second replica becomes a candidate by the commit that also makes the owner's lease visible.
7. Nothing waits: rows and jobs that somebody else has locked are passed over, and looked at again shortly after (`TAKEN`). Of those that
   suit, a claim passes over as many as it wants, at least SPARE; if it got none at all by that, over SPARE_MANY.
8. The length of a queue costs nothing, whatever it is made of: rules 3 to 6 are decided for classes of replicas (queue_looks.py).

Locks are taken job before replica, as everywhere; under them the conditions of rules 4 and 6 are checked again, on the rows as they are
then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from jobs.matching.queue_looks import look_parameters, suited_find
from jobs.models import Job, Replica
from jobs.states import JOB_OPEN
from nodes.models import Node
from workers.protocol.messages.exchange import FreeResources, Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.room import Need, NoRoomError, Room

OWNER_ATTEMPTS_MAX: Final = 3
"""Fewer than a job has attempts (NEXA_ATTEMPTS_MAX), more than one: an owner's only node may be cut off and come back.

The trigger that counts them says the same number (migration 0003)."""

SPARE: Final = 64
SPARE_MANY: Final = 2000

# What an order is made of, and what its lease changes or draws by; other columns, and there are many, are not read.
_OF_REPLICA: Final = "r.id, r.job_id, r.state, r.tier, r.cpus, r.memory_bytes, r.disk_bytes, r.gpus, r.gpu_memory_bytes"
_JOBS: Final = """
SELECT id, state, was_taken, tier, job_type, descriptor, image, credit_rate_micro, copies, quorum, policy, spot_share, spot_key_id,
       spot_chosen
FROM jobs_job WHERE id = ANY(%s)
"""

# Rows come in the order in which they were found, without a sort, so that none is read that isn't wanted. Row locks are taken in the order
# of the clauses: a replica whose job can't be had is not touched.
_LOCK: Final = f"""
SELECT {_OF_REPLICA} FROM unnest(%(found)s::uuid[]) WITH ORDINALITY AS found(id, place)
JOIN jobs_replica r ON r.id = found.id JOIN jobs_job j ON j.id = r.job_id
WHERE r.state = 'queued' AND r.queue_key IS NOT NULL AND j.state = ANY(%(open)s)
  AND NOT %(owner)s = ANY(r.barred) AND NOT %(node)s = ANY(r.failed_nodes)
ORDER BY found.place LIMIT %(count)s
FOR NO KEY UPDATE OF j SKIP LOCKED FOR NO KEY UPDATE OF r SKIP LOCKED
"""  # noqa: S608  names of our own columns


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

    Needs a transaction; the caller takes the leases and commits. For each tier one or two looks, and one statement that locks.
    """
    room = Room(free)
    claims: list[Claim] = []
    for tier in tiers:
        if room.slots == 0:
            break
        claims += [claim for claim in _tier_claim(node, tier, room, wishes) if _packed(room, claim.replica)]
    return claims


def _tier_claim(node: Node, tier: Tier, room: Room, wishes: Wishes) -> list[Claim]:
    parameters = look_parameters(node=node, room=room, wishes=wishes)
    for wanted, spare in ((room.slots, max(SPARE, room.slots)), (room.slots + SPARE_MANY, 0)):
        found = suited_find(parameters=parameters, tier=tier, wanted=wanted, spare=spare)
        claims = claims_lock(found=found, node=node, count=room.slots) if found else []
        if claims or len(found) < wanted:
            return claims
    return []


def claims_lock(*, found: Sequence[UUID], node: Node, count: int) -> list[Claim]:
    """The first `count` of these that are still as they were found and could be locked, job and replica. Others stay as they are."""
    parameters = {"found": list(found), "owner": node.owner_id, "node": node.pk, "open": sorted(JOB_OPEN), "count": count}
    replicas = list(Replica.objects.raw(_LOCK, parameters))
    jobs = {job.pk: job for job in Job.objects.raw(_JOBS, [[one.job_id for one in replicas]])}
    for replica in replicas:
        replica.job = jobs[replica.job_id]
    return [Claim(replica=replica, job=replica.job) for replica in replicas]


def _packed(room: Room, replica: Replica) -> bool:
    """Whether the replica fits beside what was packed before; if so, it is packed too."""
    need = Need(replica.cpus, replica.memory_bytes, replica.disk_bytes, replica.gpus, replica.gpu_memory_bytes)
    try:
        room.take(need)
    except NoRoomError:
        return False
    return True
