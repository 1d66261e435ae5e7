"""Why an exchange brings no order: a code and a sentence for the contributor.

What is said is what somebody without any lease would be told. Replicas of jobs that this owner's nodes run, ran or failed are counted
nowhere, neither here nor in other tiers: that one is queued would tell the owner that the job runs elsewhere too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import connection

from jobs.matching import queue_looks
from jobs.matching.claims import queues_served
from jobs.matching.queue_looks import CLASSES, NOT_BARRED, SUITS, look_parameters
from nodes.models import Node, NodeState
from workers.protocol.messages.exchange import FreeResources, NoWork, Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.room import Room

TAKEN: Final = "taken_by_others"
"""Code of a refusal that is about a moment: something fits, and another exchange has it locked."""

_CONDITIONS: Final = {
    "closed": queue_looks.KIND_OPEN,
    "images": queue_looks.IMAGE_WISHED,
    "job_types": queue_looks.TYPE_WISHED,
    "rates": queue_looks.RATE_WISHED,
    "unwished": f"({queue_looks.IMAGE_WISHED} AND {queue_looks.TYPE_WISHED} AND {queue_looks.RATE_WISHED})",
    "cpus": queue_looks.FITS_CPUS,
    "memory": queue_looks.FITS_MEMORY,
    "disk": queue_looks.FITS_DISK,
    "gpus": queue_looks.FITS_GPUS,
}
"""What must hold, by the name of what lacks where it doesn't."""

_SEEN: Final = "r.tier = ANY(%(served)s)"
_REASONS: Final = f"""
WITH RECURSIVE {CLASSES}
SELECT count(*) FILTER (WHERE {_SEEN}) AS seen,
       {", ".join(f"count(*) FILTER (WHERE {_SEEN} AND NOT {condition}) AS {name}" for name, condition in _CONDITIONS.items())},
       max(k.credit_rate_micro) FILTER (WHERE {_SEEN}) AS rate_max,
       min(r.cpus) FILTER (WHERE {_SEEN}) AS cpus_min,
       min(r.memory_bytes) FILTER (WHERE {_SEEN}) AS memory_min,
       min(r.disk_bytes) FILTER (WHERE {_SEEN}) AS disk_min,
       count(*) FILTER (WHERE {_SEEN} AND {SUITS}) AS available,
       array_agg(DISTINCT r.tier::text) FILTER (WHERE NOT {_SEEN}) AS elsewhere
FROM class r JOIN jobs_jobkind k ON k.id = r.kind_id WHERE {NOT_BARRED}
"""  # noqa: S608  our own constants; every value is a parameter


def no_work_reason(*, node: Node, wanted: Sequence[Tier], free: FreeResources, wishes: Wishes) -> NoWork:
    """Why an exchange brings no order, by at most one query, whose cost is in the classes of what is queued and not in its length."""
    match NodeState(node.state):
        case NodeState.PAUSED:
            return NoWork(code="node_paused", message="This node is paused. Resume it on its page in the portal.")
        case NodeState.DRAINING:
            message = "This node is draining: it finishes what it has and ends. Resume it on its page in the portal, then start it."
            return NoWork(code="node_draining", message=message)
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
    parameters = {
        **look_parameters(node=node, room=Room(free), wishes=wishes),
        "tiers": [tier.value for tier in Tier],
        "served": [tier.value for tier in tiers],
        "start": uuid.uuid4(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_REASONS, parameters)
        row = cursor.fetchone() or ()
        found = {column.name: value for column, value in zip(cursor.description, row, strict=True)}
    return _reason_of(found, ", ".join(tiers), free, wishes)


def _reason_of(found: Mapping[str, Any], names: str, free: FreeResources, wishes: Wishes) -> NoWork:
    """`found` is the row of _REASONS; `names` are the tiers looked at."""
    seen = found["seen"]
    if seen == 0:
        elsewhere = ", ".join(sorted(found["elsewhere"] or ()))
        others = f" Jobs are queued for {elsewhere}, which this node does not serve or ask for." if elsewhere else ""
        message = f"No job is queued for {names}. Jobs that your nodes run, ran or failed are not counted.{others}"
        return NoWork(code="no_jobs_queued", message=message)
    if found["available"]:
        return NoWork(code=TAKEN, message="What is queued and fits is being given to other nodes at this moment.")
    counted = {
        "closed": "is of images whose runs fail everywhere at the moment",
        "images": "is of images that this host does not allow",
        "job_types": "is of job types that this host does not allow",
        "rates": f"offers less than the {wishes.credit_rate_min:g} credits that this host asks for (the most: {found['rate_max'] / 1e6:g})",
        "cpus": f"needs more than the {free.cpus:g} free cores (the least: {found['cpus_min']:g})",
        "memory": f"needs more than the {_gib(free.memory_bytes)} of free memory (the least: {_gib(found['memory_min'])})",
        "disk": f"needs more than the {_gib(free.disk_bytes)} of free disk (the least: {_gib(found['disk_min'])})",
        "gpus": f"needs more or larger GPUs than the {len(free.gpus)} free ones",
    }
    parts = "; ".join(f"{'all' if found[name] == seen else 'some'} {what}" for name, what in counted.items() if found[name])
    message = f"Of what is queued for {names}: {parts}."[:500]
    if found["closed"] == seen:
        return NoWork(code="images_closed", message=message)
    if found["unwished"] == seen:
        return NoWork(code="none_wished", message=message)
    return NoWork(code="none_fits", message=message)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
