"""Reads of jobs, as their owners and the public may have them. What isn't the caller's is answered like what isn't there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from jobs.descriptor import Visibility
from jobs.evidence import disclosure
from jobs.models import ImageApproval, ImageRequest, Job, JobEvent, JobInput, JobKind, Replica, Upload
from jobs.states import JOB_OPEN, JOB_TERMINAL, JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest
from ledger.models import LogLeaf
from nodes.models import Node, NodeState
from people.models import User
from workers.protocol.messages.machine import Tier

SEEN_SECONDS: Final = 120
"""A node counts as online when its last exchange is at most this long ago."""

_UNTAKEN_REPLICA: Final = ~Exists(Replica.objects.filter(job=OuterRef("job"), leased_at__isnull=False))
"""Of a replica: no host has ever taken one of its job."""


def job_of(*, owner: User, job_id: UUID) -> Job | None:
    """The job if it is `owner`'s, else None, whoever else may have it."""
    return Job.objects.select_related("owner", "canonical_replica").filter(owner=owner, pk=job_id).first()


def jobs_named(*, owner: User, job_ids: Iterable[str]) -> list[Job]:
    """Those of these jobs that are `owner`'s, newest first, without their descriptors; what is no id names none."""
    named = [found for found in map(_uuid, job_ids) if found]
    return list(Job.objects.filter(owner=owner, pk__in=named).defer("descriptor", "words").order_by("-submitted_at", "-pk"))


def job_shared(*, job_id: UUID) -> Job | None:
    """The job if anybody may see its shared page, else None."""
    return Job.objects.filter(pk=job_id, visibility=Visibility.PUBLIC).first()


def job_by_link(*, secret: str) -> Job | None:
    """The unlisted job whose link this is, else None."""
    return Job.objects.filter(link_secret=secret, visibility=Visibility.UNLISTED).first() if secret else None


def inputs_of(*, job: Job) -> list[JobInput]:
    """The job's inputs by path, blobs fetched along."""
    return list(JobInput.objects.filter(job=job).select_related("blob").defer("blob__data").order_by("path"))


def uploads_of(*, owner: User, digests: Iterable[str]) -> dict[str, Upload]:
    """What `owner` has uploaded or begun to upload of these, by digest."""
    return {upload.digest: upload for upload in Upload.objects.filter(user=owner, digest__in=list(digests))}


def replicas_of(*, job: Job) -> list[Replica]:
    """The job's replicas that may be shown, oldest first, with node, receipt, archive (but for its bytes) and evidence fetched along.

    Three statements, however many.
    """
    fetched = Replica.objects.select_related("node", "receipt__archive").defer("receipt__archive__data").prefetch_related("evidence")
    found = fetched.filter(job=job).order_by("created_at", "pk")
    return disclosure.lines_of(list(found), copies=copies_shown(job).copies) if is_veiled(job) else list(found)


def events_of(*, job: Job, after: int, limit: int) -> list[JobEvent]:
    """The job's events with an id beyond `after`, oldest first. All of them once the job is concluded, before that what may be shown."""
    events: QuerySet[JobEvent] = JobEvent.objects.filter(job=job).order_by("pk")
    if not is_veiled(job):
        behind = events.filter(pk__gt=after)
        return list(behind[:limit] if is_concluded(job) else behind.filter(public=True)[:limit])
    shown = events_shown(list(events.filter(kind__startswith="job.").select_related("job")))
    return [event for event in shown if event.pk > after][:limit]


def events_shown(events: Iterable[JobEvent]) -> list[JobEvent]:
    """Of events in the order of their ids, jobs fetched along, those that may be shown. At most one statement."""
    return _events_shown(events, is_veiled)


def events_for_strangers(events: Iterable[JobEvent]) -> list[JobEvent]:
    """`events_shown` with every open job as if veiled: else those that show more would tell which the veiled ones are."""
    return _events_shown(events, lambda job: not is_concluded(job))


def _events_shown(events: Iterable[JobEvent], veiled: Callable[[Job], bool]) -> list[JobEvent]:
    public = [event for event in events if event.public]
    once = {event.job_id for event in public if event.kind in disclosure.EVENTS_ONCE and veiled(event.job)}
    firsts: set[int] = set()
    if once:
        found = JobEvent.objects.filter(job__in=once, kind__in=disclosure.EVENTS_ONCE).values("job", "kind").annotate(first=Min("pk"))
        firsts = {row["first"] for row in found}
    return [event for event in public if not veiled(event.job) or _is_shown(event, firsts)]


def _is_shown(event: JobEvent, firsts: set[int]) -> bool:
    return event.pk in firsts if event.kind in disclosure.EVENTS_ONCE else disclosure.event_kind_shown(event.kind)


def is_veiled(job: Job) -> bool:
    """`disclosure.is_veiled` of a row."""
    return disclosure.is_veiled(state=JobState(job.state), policy=job.policy, copies=job.copies)


def is_concluded(job: Job) -> bool:
    """Whether what its replicas delivered may be shown to its owner."""
    return disclosure.is_concluded(JobState(job.state))


def copies_shown(job: Job) -> disclosure.CopiesShown:
    """`disclosure.copies_shown` of a row."""
    return disclosure.copies_shown(state=JobState(job.state), policy=job.policy, copies=job.copies, quorum=job.quorum)


def state_shown(job: Job) -> JobState:
    """`disclosure.job_state_shown` of a row; the column `shown_state` says the same to queries."""
    return disclosure.job_state_shown(state=JobState(job.state), was_taken=job.was_taken) if is_veiled(job) else JobState(job.state)


@dataclass(frozen=True)
class Reservations:
    """What a person has set aside: in all, and for the newest of the jobs, each with its state as it may be shown."""

    count: int
    reserved_micro: int
    jobs: list[tuple[Job, JobState]]


def reservations_open(*, owner: User, limit: int) -> Reservations:
    """The jobs of `owner` whose reservations still wait in the escrow: those that are not at their end."""
    unended = Job.objects.filter(owner=owner).exclude(state__in=sorted(JOB_TERMINAL))
    totals = unended.aggregate(count=Count("pk"), reserved=Sum("reserved_micro"))
    newest = unended.defer("descriptor").order_by("-submitted_at", "-pk")[:limit]
    return Reservations(totals["count"], totals["reserved"] or 0, [(job, state_shown(job)) for job in newest])


def image_closed_until(*, job: Job) -> datetime | None:
    """Till when the circuit breaker of the job's image keeps its replicas in the queue; None: it doesn't."""
    if JobState(job.state) not in JOB_OPEN:
        return None
    closed = JobKind.objects.filter(
        image_name=job.image["name"], job_type=job.job_type, credit_rate_micro=job.credit_rate_micro, closed_until__gt=timezone.now()
    )
    return closed.values_list("closed_until", flat=True).first()


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def jobs_untaken() -> QuerySet[Job]:
    """The jobs that wait for their first host."""
    return Job.objects.filter(was_taken=False, state=JobState.QUEUED)


def jobs_decided_newest(*, limit: int) -> list[Job]:
    """The jobs that were completed or failed last, newest first: found by what happened, so that the others need not be looked at."""
    happened: list[tuple[datetime, UUID]] = []
    for state in (JobState.COMPLETED, JobState.FAILED):
        newest = JobEvent.objects.filter(kind=f"job.{state}").order_by("-created_at")
        happened += newest.values_list("created_at", "job_id")[:limit]
    job_ids = [job_id for _, job_id in sorted(happened, reverse=True)[:limit]]
    return list(Job.objects.filter(pk__in=job_ids).order_by("-concluded_at"))


def largest_node(*, tier: Tier) -> dict[str, Any] | None:
    """The node of `tier` with the most memory on one GPU, as its profile says; None: there is none."""
    profiles = Node.objects.filter(tier=tier).exclude(state=NodeState.REVOKED).values_list("profile", flat=True)
    sizes = (
        {
            "gpus": len(profile["gpus"]),
            "gpu_memory_bytes": max((gpu["memory_bytes"] for gpu in profile["gpus"]), default=0),
            "memory_bytes": profile["memory_bytes"],
            "cores": profile["cores"],
        }
        for profile in profiles.iterator()
    )
    return max(sizes, key=lambda size: (size["gpu_memory_bytes"], size["memory_bytes"]), default=None)


def portal_status() -> dict[str, Any]:
    """What the database says now: queues and nodes by tier, jobs by state, the ledger's size and newest checkpoint. No names, no labels.

    Queues hold what no host has taken any replica of yet, and a job counts as running from its first lease to its conclusion: what is
    queued again, or verified, tells of results.
    """
    now = timezone.now()
    fleet: dict[str, Mapping[str, Any]] = {
        row["tier"]: row
        for row in Node.objects.exclude(state=NodeState.REVOKED)
        .values("tier")
        .annotate(registered=Count("pk"), seen=Count("pk", filter=Q(last_seen_at__gte=now - timedelta(seconds=SEEN_SECONDS))))
    }
    counted = {row["state"]: row["count"] for row in Job.objects.values("state").annotate(count=Count("pk"))}
    again = Job.objects.filter(was_taken=True, state=JobState.QUEUED).count()
    verifying = counted.pop(JobState.VERIFYING, 0)
    counted[JobState.QUEUED] = counted.get(JobState.QUEUED, 0) - again
    counted[JobState.RUNNING] = counted.get(JobState.RUNNING, 0) + verifying + again
    checkpoint = checkpoint_latest()
    newest_leaf = LogLeaf.objects.order_by("-index").values_list("index", flat=True).first()
    return {
        "time": now,
        "queues": list(queues_waiting().values()),
        "nodes": [
            {"tier": tier, "registered": fleet.get(tier.value, {}).get("registered", 0), "seen": fleet.get(tier.value, {}).get("seen", 0)}
            for tier in Tier
        ],
        "jobs": {state.value: counted.get(state.value, 0) for state in JobState},
        "ledger": {
            "leaves": 0 if newest_leaf is None else newest_leaf + 1,
            "checkpoint_size": checkpoint.size if checkpoint else 0,
            "checkpoint_at": checkpoint.created_at if checkpoint else None,
        },
    }


def queues_waiting() -> dict[Tier, dict[str, Any]]:
    """Of each tier, what no host has taken any replica of yet: {tier, depth, oldest_wait_seconds}."""
    now = timezone.now()
    waiting = Replica.objects.filter(_UNTAKEN_REPLICA, state=ReplicaState.QUEUED).values("tier")
    found: dict[str, Mapping[str, Any]] = {row["tier"]: row for row in waiting.annotate(depth=Count("pk"), oldest=Min("created_at"))}
    return {tier: _queue_of(tier, found.get(tier.value, {}), now) for tier in Tier}


def _queue_of(tier: Tier, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    oldest = row.get("oldest")
    return {"tier": tier, "depth": row.get("depth", 0), "oldest_wait_seconds": (now - oldest).total_seconds() if oldest else None}


def is_result_gone(*, job: Job, replicas: Iterable[Replica]) -> bool:
    """Whether the bytes of the job's accepted result were removed by rule. `replicas` as replicas_of has them."""
    archives = [replica.receipt.archive for replica in replicas if replica.pk == job.canonical_replica_id]
    return any(archive is not None and archive.removed_at is not None for archive in archives)


def image_approvals() -> list[ImageApproval]:
    """What researchers may run, by name."""
    return list(ImageApproval.objects.order_by("name")[:1000])


def image_requests_of(*, owner: User) -> list[ImageRequest]:
    """The newest images that `owner` asked for."""
    return list(ImageRequest.objects.filter(asked_by=owner).order_by("-asked_at", "-pk")[:50])
