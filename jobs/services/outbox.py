"""The outbox: pushes what happened to browsers (Channels groups) and people (telling.py), at least once, after it was committed.

Events go out in batches: one message a watched job and one for the fleet, however many events; jobs that nobody watches cost nothing. What
waits is a row for each statement that wrote events, and is gone when they are pushed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.db import connection, transaction

from jobs.evidence.disclosure import EVENTS_ONCE
from jobs.models import JobEvent, UnpushedEvents
from jobs.nudges import redis_client
from jobs.selectors import events_shown
from jobs.services.telling import TOLD, ends_tell
from jobs.states import JOB_TERMINAL, JobState
from nodes.nudges import NODES_WATCHED_GROUP, nodes_group

log = logging.getLogger(__name__)

BATCH_WRITES: Final = 20
"""Events that so many statements wrote: of some hundred jobs each at most, where much happens."""
FLEET_GROUP: Final = "fleet"
_EVENTS: Final = "SELECT id, job_id, kind FROM jobs_jobevent WHERE id = ANY(%s) ORDER BY id"
_FLEET_KINDS: Final = EVENTS_ONCE | {f"job.{state}" for state in JOB_TERMINAL | {JobState.DISPUTED}}


def job_group(job_id: object) -> str:
    """The Channels group of one job's watchers."""
    return f"job.{job_id}"


def event_document(event: JobEvent) -> dict[str, Any]:
    """An event as browsers and the API see it."""
    return {
        "id": event.pk,
        "job": str(event.job_id),
        "replica": str(event.replica_id) if event.replica_id else None,
        "kind": event.kind,
        "payload": event.payload,
        "at": event.created_at.isoformat(),
    }


def outbox_push() -> int:
    """Pushes what waits, oldest first, and returns how many events. A push that fails is tried again by the next run."""
    pushed = 0
    while batch := _batch_push():
        pushed += batch
    return pushed


def _batch_push() -> int:
    with transaction.atomic():
        waiting = dict(UnpushedEvents.objects.select_for_update(skip_locked=True).order_by("pk").values_list("pk", "events")[:BATCH_WRITES])
        if not waiting:
            return 0
        with connection.cursor() as cursor:
            cursor.execute(_EVENTS, [[event for events in waiting.values() for event in events]])
            found = cursor.fetchall()
        try:
            if messages := _messages([(pk, job_id) for pk, job_id, _ in found]):
                async_to_sync(_sockets_send)(messages)
        except (redis.RedisError, OSError) as error:
            log.warning("outbox waits, the channel layer is away: %s", error)
            return 0
        ends_tell([(pk, job_id, JobState(kind.removeprefix("job."))) for pk, job_id, kind in found if kind in TOLD])
        UnpushedEvents.objects.filter(pk__in=waiting).delete()
    return len(found)


def _messages(events: Sequence[tuple[int, UUID]]) -> list[tuple[str, dict[str, Any]]]:
    """(group, message) for events given by their id and job: owners see at once what may be shown, the rest once the job is concluded.

    Strangers are told how many, no more. First asks who watches, then reads what they watch.
    """
    watched = _watched([FLEET_GROUP, NODES_WATCHED_GROUP, *dict.fromkeys(job_group(job_id) for _, job_id in events)])
    if NODES_WATCHED_GROUP in watched:
        return _job_messages(events, watched) + _node_messages(events)
    return _job_messages(events, watched)


def _node_messages(events: Sequence[tuple[int, UUID]]) -> list[tuple[str, dict[str, Any]]]:
    """To the owners of the nodes whose own replicas these events are about: that something changed, and nothing else."""
    about = JobEvent.objects.filter(pk__in=[pk for pk, _ in events], replica__node_owner__isnull=False)
    owner_ids = set(about.values_list("replica__node_owner", flat=True))
    return [(nodes_group(owner_id), {"type": "nodes.changed"}) for owner_id in sorted(owner_ids)]


def _job_messages(events: Sequence[tuple[int, UUID]], watched: set[str]) -> list[tuple[str, dict[str, Any]]]:
    wanted = [pk for pk, job_id in events if FLEET_GROUP in watched or job_group(job_id) in watched]
    if not wanted:
        return []
    shown = events_shown(JobEvent.objects.filter(pk__in=wanted).select_related("job").defer("job__descriptor").order_by("pk"))
    by_job: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in shown:
        if job_group(event.job_id) in watched:
            by_job[job_group(event.job_id)].append(event_document(event))
    messages: list[tuple[str, dict[str, Any]]] = [
        (group, {"type": "job.events", "events": documents}) for group, documents in by_job.items()
    ]
    moved = sum(event.kind in _FLEET_KINDS for event in shown)
    if moved and FLEET_GROUP in watched:
        messages.append((FLEET_GROUP, {"type": "fleet.moved", "events": moved}))
    return messages


def _watched(groups: Iterable[str]) -> set[str]:
    """Those of these groups that somebody listens to, by one question to Redis; all of them on another layer, which can't be asked."""
    layer = get_channel_layer()
    names = list(groups)
    if not isinstance(layer, RedisPubSubChannelLayer):
        return set(names)
    # As the layer names the Redis channel of a group; a test holds it to that.
    channels = {f"{settings.NEXA_CHANNEL_PREFIX}__group__{name}": name for name in names}
    counted = redis_client(settings.NEXA_REDIS_URL).pubsub_numsub(*channels)
    return {channels[str(channel, "ascii") if isinstance(channel, bytes) else channel] for channel, count in counted if count}


async def _sockets_send(messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
    layer = get_channel_layer()
    if layer is not None:
        for group, message in messages:
            await layer.group_send(group, message)
