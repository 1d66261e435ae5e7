"""The outbox: pushes what happened to browsers (Channels groups) and people (e-mail), at least once, after it was committed.

Events go out in batches: one message a watched job and one for the fleet, however many events; jobs that nobody watches cost nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from smtplib import SMTPException
from typing import Any, Final

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.core.mail import get_connection, send_mail
from django.db import transaction
from django.utils import timezone

from jobs.models import Job, JobEvent
from jobs.nudges import redis_client
from jobs.states import JobState

log = logging.getLogger(__name__)

BATCH_EVENTS: Final = 1000
FLEET_GROUP: Final = "fleet"
_MAILED: Final = {f"job.{state}" for state in (JobState.COMPLETED, JobState.FAILED, JobState.DISPUTED)}


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
        if batch < BATCH_EVENTS:
            break
    return pushed


def _batch_push() -> int:
    with transaction.atomic():
        events = list(JobEvent.objects.select_for_update(skip_locked=True).filter(pushed_at=None).order_by("pk")[:BATCH_EVENTS])
        try:
            async_to_sync(_sockets_send)(_messages(events))
        except (redis.RedisError, OSError) as error:
            log.warning("outbox waits, the channel layer is away: %s", error)
            return 0
        _mails_send([event for event in events if event.kind in _MAILED])
        JobEvent.objects.filter(pk__in=[event.pk for event in events]).update(pushed_at=timezone.now())
    return len(events)


def _messages(events: Sequence[JobEvent]) -> list[tuple[str, dict[str, Any]]]:
    """(group, message): owners see public events at once; the rest they read in the timeline once the job is concluded.

    Strangers see kinds, types and tiers only. Reads the jobs of coarse events, and which groups are watched.
    """
    shown = [event for event in events if event.public]
    by_job: dict[Any, list[JobEvent]] = defaultdict(list)
    for event in shown:
        by_job[event.job_id].append(event)
    watched = _watched([FLEET_GROUP, *(job_group(job_id) for job_id in by_job)])
    messages: list[tuple[str, dict[str, Any]]] = [
        (job_group(job_id), {"type": "job.events", "events": [event_document(event) for event in found]})
        for job_id, found in by_job.items()
        if job_group(job_id) in watched
    ]
    of_jobs = [event for event in shown if event.kind.startswith("job.")]
    if of_jobs and FLEET_GROUP in watched:
        kinds = {row[0]: row[1:] for row in Job.objects.filter(pk__in=list(by_job)).values_list("pk", "job_type", "tier")}
        coarse = [
            {"kind": event.kind, "job_type": kinds[event.job_id][0], "tier": kinds[event.job_id][1], "at": event.created_at.isoformat()}
            for event in of_jobs
        ]
        messages.append((FLEET_GROUP, {"type": "fleet.events", "events": coarse}))
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
    return {channels[channel.decode()] for channel, count in counted if count}


async def _sockets_send(messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
    layer = get_channel_layer()
    for group, message in messages if layer is not None else ():
        await layer.group_send(group, message)


def _mails_send(events: Sequence[JobEvent]) -> None:
    """Tells owners that their jobs ended, over one connection. A mail server that refuses is logged; the timeline has it all the same."""
    if not events:
        return
    jobs = Job.objects.select_related("owner").in_bulk([event.job_id for event in events])
    try:
        with get_connection() as connection:
            for event in events:
                if jobs[event.job_id].owner.email:
                    _mail_send(jobs[event.job_id], event.kind.removeprefix("job."), connection)
    except (SMTPException, OSError) as error:
        log.warning("no mail about %d jobs, the mail server is away: %s", len(events), error)


def _mail_send(job: Job, state: str, connection: Any) -> None:
    lines = [f"{job.label} ({job.job_type}) is {state}."]
    if job.failure_message:
        lines.append(f"{job.failure_code}: {job.failure_message}")
    if job.verdict_summary:
        lines.append(f"{job.verdict_summary['agreeing']} of {job.verdict_summary['reported']} replicas agree.")
    lines.append(f"{settings.NEXA_ORIGIN}/jobs/{job.pk}/")
    try:
        send_mail(f"[NEXAPod] {job.label}: {state}", "\n\n".join(lines), None, [job.owner.email], connection=connection)
    except (SMTPException, OSError) as error:
        log.warning("no mail about job %s: %s", job.pk, error)
