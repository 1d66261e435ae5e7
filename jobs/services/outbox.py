"""The outbox: pushes what happened to browsers (Channels groups) and people (e-mail), at least once, after it was committed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from smtplib import SMTPException
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from jobs.models import JobEvent
from jobs.selectors import events_shown
from jobs.states import JobState

log = logging.getLogger(__name__)

BATCH_EVENTS = 200
FLEET_GROUP = "fleet"
_MAILED = {f"job.{state}" for state in (JobState.COMPLETED, JobState.FAILED, JobState.DISPUTED)}


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
        events = list(
            JobEvent.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(pushed_at=None)
            .select_related("job__owner")
            .order_by("pk")[:BATCH_EVENTS]
        )
        try:
            async_to_sync(_sockets_send)(events_shown(events))
        except (RedisError, OSError) as error:
            log.warning("outbox waits, the channel layer is away: %s", error)
            return 0
        for event in events:
            if event.kind in _MAILED:
                _mail_send(event)
        JobEvent.objects.filter(pk__in=[event.pk for event in events]).update(pushed_at=timezone.now())
    return len(events)


async def _sockets_send(events: Sequence[JobEvent]) -> None:
    """Owners see these at once; the rest they read in the timeline once the job is concluded. Strangers see kinds only."""
    layer = get_channel_layer()
    if layer is None:
        return
    for event in events:
        await layer.group_send(job_group(event.job_id), {"type": "job.event", "event": event_document(event)})
        if not event.kind.startswith("job."):
            continue
        coarse = {"kind": event.kind, "job_type": event.job.job_type, "tier": event.job.tier, "at": event.created_at.isoformat()}
        await layer.group_send(FLEET_GROUP, {"type": "fleet.event", "event": coarse})


def _mail_send(event: JobEvent) -> None:
    """Tells the owner that their job ended. A mail server that refuses is logged; the timeline has it all the same."""
    job = event.job
    if not job.owner.email:
        return
    state = event.kind.removeprefix("job.")
    lines = [f"{job.label} ({job.job_type}) is {state}."]
    if job.failure_message:
        lines.append(f"{job.failure_code}: {job.failure_message}")
    if job.verdict_summary:
        lines.append(f"{job.verdict_summary['agreeing']} of {job.verdict_summary['reported']} replicas agree.")
    lines.append(f"{settings.NEXA_ORIGIN}/jobs/{job.pk}/")
    try:
        send_mail(f"[NEXAPod] {job.label}: {state}", "\n\n".join(lines), None, [job.owner.email])
    except (SMTPException, OSError) as error:
        log.warning("no mail about job %s: %s", job.pk, error)
