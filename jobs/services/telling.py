"""Telling people how jobs ended: in the portal, by webhook and by mail, as each wishes. Called by the outbox, in its transaction."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from smtplib import SMTPException
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.mail import get_connection, send_mail

from jobs.models import Job
from jobs.services.disputes import moderators
from jobs.states import JobState
from people.notifications.models import NotificationKind
from people.notifications.selectors import owners_without_mail
from people.notifications.services import Draft, notifications_write

log = logging.getLogger(__name__)

DIGEST_LABELS: Final = 20
Mail = tuple[str, list[str], str]
"""Subject, paragraphs, address."""
KINDS: Final = {
    JobState.COMPLETED: NotificationKind.JOB_COMPLETED,
    JobState.FAILED: NotificationKind.JOB_FAILED,
    JobState.DISPUTED: NotificationKind.JOB_DISPUTED,
}
TOLD: Final = frozenset(f"job.{state}" for state in KINDS)
"""Kinds of events that people are told of."""


def ends_tell(ends: Sequence[tuple[int, UUID, JobState]]) -> None:
    """Tells owners how their jobs ended (event, job, state): one notification for each state and one mail for all of a batch, as they wish;
    and moderators of disputes.

    A mail server that refuses, or is away, is logged; the timeline has it all the same.
    """
    if not ends:
        return
    told = ("label", "job_type", "dispute_deadline_at", "failure_code", "failure_message", "verdict_summary", "owner__email")
    jobs = Job.objects.select_related("owner").only(*told).in_bulk([job_id for _, job_id, _ in ends])
    _notify(jobs, ends)
    unwanted = owners_without_mail(kinds=KINDS.values(), owners={job.owner_id for job in jobs.values()})
    by_owner: dict[int, list[tuple[Job, str]]] = defaultdict(list)
    mails: list[Mail] = []
    for _, job_id, state in ends:
        if (jobs[job_id].owner_id, KINDS[state]) not in unwanted:
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


def _notify(jobs: Mapping[UUID, Job], ends: Sequence[tuple[int, UUID, JobState]]) -> None:
    together: dict[tuple[int, JobState], list[tuple[int, Job]]] = defaultdict(list)
    for event, job_id, state in ends:
        together[jobs[job_id].owner_id, state].append((event, jobs[job_id]))
    notifications_write([_draft(owner_id, state, ended) for (owner_id, state), ended in together.items()])


def _draft(owner_id: int, state: JobState, ended: Sequence[tuple[int, Job]]) -> Draft:
    """Of the jobs of one owner that ended alike. The key is of the first event: a batch that is pushed again says the same."""
    event, first = ended[0]
    is_one = len(ended) == 1
    named = ", ".join(job.label for _, job in ended[:DIGEST_LABELS])
    more = f" and {len(ended) - DIGEST_LABELS} more" if len(ended) > DIGEST_LABELS else ""
    return Draft(
        owner_id=owner_id,
        kind=KINDS[state],
        key=f"job:{state}:{event}",
        subject=f"{first.label}: {state}" if is_one else f"{len(ended)} jobs: {state}",
        text=first.failure_message if is_one else named + more,
        path=f"/jobs/{first.pk}/" if is_one else "/jobs/",
        data={"jobs": [{"id": str(job.pk), "job_id": job.label, "state": state, "code": job.failure_code} for _, job in ended]},
    )


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
    mailed = moderators().exclude(email="").exclude(pk=job.owner_id).exclude(pk__in=node_owners)
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
