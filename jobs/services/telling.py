"""Telling people how jobs ended, and moderators of disputes. Called by the outbox, in its transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobs.models import Job
from jobs.services.disputes import moderators
from jobs.states import JobState
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write

LABELS_NAMED: Final = 20
KINDS: Final = {
    JobState.COMPLETED: NotificationKind.JOB_COMPLETED,
    JobState.FAILED: NotificationKind.JOB_FAILED,
    JobState.DISPUTED: NotificationKind.JOB_DISPUTED,
}
TOLD: Final = frozenset(f"job.{state}" for state in KINDS)
"""Kinds of events that people are told of."""


def ends_tell(ends: Sequence[tuple[int, UUID, JobState]]) -> None:
    """Tells owners how their jobs ended (event, job, state), one notification for all that ended alike, and moderators of disputes."""
    if not ends:
        return
    told = ("label", "job_type", "owner_id", "dispute_deadline_at", "failure_code", "failure_message", "verdict_summary")
    jobs = Job.objects.only(*told).in_bulk([job_id for _, job_id, _ in ends])
    together: dict[tuple[int, JobState], list[tuple[int, Job]]] = defaultdict(list)
    for event, job_id, state in ends:
        together[jobs[job_id].owner_id, state].append((event, jobs[job_id]))
    drafts = [_draft(owner_id, state, ended) for (owner_id, state), ended in together.items()]
    for event, job_id, state in ends:
        if state == JobState.DISPUTED:
            drafts += _to_moderators(event, jobs[job_id])
    notifications_write(drafts)


def _draft(owner_id: int, state: JobState, ended: Sequence[tuple[int, Job]]) -> Draft:
    """Of the jobs of one owner that ended alike. The key is of the first event: a batch that is pushed again says the same."""
    event, first = ended[0]
    is_one = len(ended) == 1
    named = ", ".join(job.label for _, job in ended[:LABELS_NAMED])
    more = f" and {len(ended) - LABELS_NAMED} more" if len(ended) > LABELS_NAMED else ""
    return Draft(
        owner_id=owner_id,
        kind=KINDS[state],
        key=f"job:{state}:{event}",
        subject=f"{first.label}: {state}" if is_one else f"{len(ended)} jobs: {state}",
        text=_how_it_ended(first, state) if is_one else named + more,
        path=f"/jobs/{first.pk}/" if is_one else "/jobs/",
        data={"jobs": [{"id": str(job.pk), "job_id": job.label, "state": state, "code": job.failure_code} for _, job in ended]},
    )


def _how_it_ended(job: Job, state: JobState) -> str:
    said = []
    if state == JobState.DISPUTED and job.dispute_deadline_at is not None:
        said.append(
            "Its hosts' results do not agree; a moderator looks at them. "
            f"Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC it fails, nobody is paid, and the reservation comes back."
        )
    if job.failure_message:
        said.append(f"{job.failure_code}: {job.failure_message}")
    if job.verdict_summary:
        said.append(f"Replicas that agree: {job.verdict_summary['agreeing']} of {job.verdict_summary['reported']}.")
    return " ".join(said)


def _to_moderators(event: int, job: Job) -> list[Draft]:
    """To those who may rule. What the results say is on the dispute's page only; what the job is called goes with its owner's erasure."""
    node_owners = job.replicas.filter(node_owner__isnull=False).values("node_owner")
    text = f"The results of a job ({job.job_type}) do not agree, and no more may be asked."
    if job.dispute_deadline_at:
        text += f" Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC it fails unpaid."
    subject, path = f"A dispute waits for a ruling: job {str(job.pk)[-8:]}", f"/admin/jobs/job/{job.pk}/dispute/"
    may_rule = moderators().exclude(pk=job.owner_id).exclude(pk__in=node_owners)
    return [
        Draft(moderator, NotificationKind.MODERATION, f"dispute:{event}", subject, path, text)
        for moderator in may_rule.values_list("pk", flat=True)
    ]
