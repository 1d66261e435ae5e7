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

from jobs.models import Job, JobEvent
from jobs.selectors import events_shown
from jobs.services.disputes import moderators
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
                _owner_mail(event)
            if event.kind == f"job.{JobState.DISPUTED}":
                _moderators_mail(event.job)
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


def _owner_mail(event: JobEvent) -> None:
    """Tells the owner that their job ended, or is disputed."""
    job = event.job
    if not job.owner.email:
        return
    state = event.kind.removeprefix("job.")
    lines = [f"{job.label} ({job.job_type}) is {state}."]
    if state == JobState.DISPUTED and job.dispute_deadline_at is not None:
        lines.append(
            f"Its hosts' results do not agree; a moderator looks at them. Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC "
            "it fails, nobody is paid, and the reservation comes back."
        )
    if job.failure_message:
        lines.append(f"{job.failure_code}: {job.failure_message}")
    if job.verdict_summary:
        lines.append(f"{job.verdict_summary['agreeing']} of {job.verdict_summary['reported']} replicas agree.")
    lines.append(f"{settings.NEXA_ORIGIN}/jobs/{job.pk}/")
    _mail_send(job, f"[NEXAPod] {job.label}: {state}", lines, [job.owner.email])


def _moderators_mail(job: Job) -> None:
    """Tells those who may rule that there is a dispute. What the results say is on its page only."""
    nodes_owners = job.replicas.filter(node_owner__isnull=False).values("node_owner")
    mailed = moderators().exclude(email="").exclude(pk=job.owner_id).exclude(pk__in=nodes_owners).filter(is_staff=True)
    lines = [
        f"The results of {job.label} ({job.job_type}) do not agree, and no more may be asked.",
        f"Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC it fails unpaid." if job.dispute_deadline_at else "",
        f"{settings.NEXA_ORIGIN}/admin/jobs/job/{job.pk}/dispute/",
    ]
    for address in mailed.values_list("email", flat=True):  # one each: they need not know of each other
        _mail_send(job, f"[NEXAPod] A dispute waits for a ruling: {job.label}", lines, [address])


def _mail_send(job: Job, subject: str, lines: Sequence[str], to: list[str]) -> None:
    """A mail server that refuses is logged; the timeline has it all the same."""
    try:
        send_mail(subject, "\n\n".join(filter(None, lines)), None, to)
    except (SMTPException, OSError) as error:
        log.warning("no mail about job %s: %s", job.pk, error)
