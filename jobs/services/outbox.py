"""The outbox: pushes what happened to browsers (Channels groups) and people (e-mail), at least once, after it was committed.

Events go out in batches: one message a watched job and one for the fleet, however many events; jobs that nobody watches cost nothing.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from smtplib import SMTPException
from typing import Any, Final
from uuid import UUID

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.core.mail import get_connection, send_mail
from django.db import connection, transaction
from django.utils import timezone

from jobs.disclosure import EVENTS_ONCE
from jobs.models import Job, JobEvent
from jobs.nudges import redis_client
from jobs.selectors import events_shown
from jobs.services.disputes import moderators
from jobs.states import JOB_TERMINAL, JobState

log = logging.getLogger(__name__)

BATCH_EVENTS: Final = 1000
DIGEST_LABELS: Final = 20
FLEET_GROUP: Final = "fleet"
Mail = tuple[str, list[str], str]
"""Subject, paragraphs, address."""
_PUSHED: Final = "UPDATE jobs_jobevent SET pushed_at = %s WHERE id = ANY(%s)"
_FLEET_KINDS: Final = EVENTS_ONCE | {f"job.{state}" for state in JOB_TERMINAL | {JobState.DISPUTED}}
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
        unpushed = JobEvent.objects.select_for_update(skip_locked=True).filter(pushed_at=None).order_by("pk")
        found = list(unpushed.values_list("pk", "job_id", "kind")[:BATCH_EVENTS])
        if not found:
            return 0
        try:
            if messages := _messages([(pk, job_id) for pk, job_id, _ in found]):
                async_to_sync(_sockets_send)(messages)
        except (redis.RedisError, OSError) as error:
            log.warning("outbox waits, the channel layer is away: %s", error)
            return 0
        _mails_send([(job_id, kind.removeprefix("job.")) for _, job_id, kind in found if kind in _MAILED])
        with connection.cursor() as cursor:
            cursor.execute(_PUSHED, [timezone.now(), [pk for pk, *_ in found]])
    return len(found)


def _messages(events: Sequence[tuple[int, UUID]]) -> list[tuple[str, dict[str, Any]]]:
    """(group, message) for events given by their id and job: owners see at once what may be shown, the rest once the job is concluded.

    Strangers are told how many, no more. First asks who watches, then reads what they watch.
    """
    watched = _watched([FLEET_GROUP, *dict.fromkeys(job_group(job_id) for _, job_id in events)])
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


def _mails_send(ends: Sequence[tuple[UUID, str]]) -> None:
    """Tells owners how their jobs ended (job, state), in one mail each for all of a batch, and moderators of disputes; over one connection.

    A mail server that refuses, or is away, is logged; the timeline has it all the same.
    """
    if not ends:
        return
    told = ("label", "job_type", "dispute_deadline_at", "failure_code", "failure_message", "verdict_summary", "owner__email")
    jobs = Job.objects.select_related("owner").only(*told).in_bulk([job_id for job_id, _ in ends])
    by_owner: dict[int, list[tuple[Job, str]]] = defaultdict(list)
    mails: list[Mail] = []
    for job_id, state in ends:
        by_owner[jobs[job_id].owner_id].append((jobs[job_id], state))
        if state == JobState.DISPUTED:
            mails += _moderator_mails(jobs[job_id])
    mails += [_owner_mail(*ended[0]) if len(ended) == 1 else _owner_digest(ended) for ended in by_owner.values()]
    try:
        with get_connection() as connection:
            for mail in mails:
                if mail[2]:
                    _mail_send(*mail, connection)
    except (SMTPException, OSError) as error:
        log.warning("no mail about %d jobs, the mail server is away: %s", len(jobs), error)


def _owner_digest(ended: Sequence[tuple[Job, str]]) -> Mail:
    """Of several jobs of one owner: how many ended how, and the first of each."""
    counts = Counter(state for _, state in ended)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    lines = [f"{len(ended)} jobs of yours: {told}."]
    for state in sorted(counts):
        those = [job for job, found in ended if found == state]
        named = ", ".join(job.label for job in those[:DIGEST_LABELS])
        lines.append(f"{state}: {named}" + (f" and {len(those) - DIGEST_LABELS} more" if len(those) > DIGEST_LABELS else ""))
    lines.append(f"{settings.NEXA_ORIGIN}/jobs/")
    return f"[NEXAPod] {told}", lines, ended[0][0].owner.email


def _owner_mail(job: Job, state: str) -> Mail:
    lines = [f"{job.label} ({job.job_type}) is {state}."]
    if state == JobState.DISPUTED and job.dispute_deadline_at is not None:
        lines.append(
            f"Its hosts' results do not agree; a moderator looks at them. Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC "
            "it fails, nobody is paid, and the reservation comes back."
        )
    if job.failure_message:
        lines.append(f"{job.failure_code}: {job.failure_message}")
    if job.verdict_summary:
        lines.append(f"Replicas that agree: {job.verdict_summary['agreeing']} of {job.verdict_summary['reported']}.")
    lines.append(f"{settings.NEXA_ORIGIN}/jobs/{job.pk}/")
    return f"[NEXAPod] {job.label}: {state}", lines, job.owner.email


def _moderator_mails(job: Job) -> list[Mail]:
    """To those who may rule, one each: they need not know of each other. What the results say is on the dispute's page only."""
    node_owners = job.replicas.filter(node_owner__isnull=False).values("node_owner")
    mailed = moderators().exclude(email="").exclude(pk=job.owner_id).exclude(pk__in=node_owners).filter(is_staff=True)
    lines = [f"The results of {job.label} ({job.job_type}) do not agree, and no more may be asked."]
    if job.dispute_deadline_at:
        lines.append(f"Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC it fails unpaid.")
    lines.append(f"{settings.NEXA_ORIGIN}/admin/jobs/job/{job.pk}/dispute/")
    subject = f"[NEXAPod] A dispute waits for a ruling: {job.label}"
    return [(subject, lines, address) for address in mailed.values_list("email", flat=True)]


def _mail_send(subject: str, lines: Sequence[str], address: str, connection: Any) -> None:
    try:
        send_mail(subject, "\n\n".join(lines), None, [address], connection=connection)
    except (SMTPException, OSError) as error:
        log.warning("no mail %r: %s", subject, error)
