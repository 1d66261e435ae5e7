"""Reads of jobs, as their owners and the public may have them. What isn't the caller's is answered like what isn't there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from jobs import disclosure
from jobs.descriptor import RedundancyPolicy
from jobs.models import Job, JobEvent, JobInput, JobKind, Replica
from jobs.states import JOB_OPEN, JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest
from ledger.models import LogLeaf
from nodes.models import Node, NodeState
from people.models import User
from workers.protocol.messages.machine import Tier

SEEN_SECONDS: Final = 120
"""A node counts as online when its last exchange is at most this long ago."""

_TAKEN: Final = Exists(Replica.objects.filter(job=OuterRef("pk"), leased_at__isnull=False))
"""Of a job: some host has taken a replica of it at some time."""

_UNTAKEN_REPLICA: Final = ~Exists(Replica.objects.filter(job=OuterRef("job"), leased_at__isnull=False))
"""Of a replica: no host has ever taken one of its job."""


def job_of(*, owner: User, job_id: UUID) -> Job | None:
    """The job if it is `owner`'s, else None, whoever else may have it."""
    return Job.objects.select_related("owner", "canonical_replica").filter(owner=owner, pk=job_id).first()


def jobs_of(
    *, owner: User, state: JobState | None = None, label: str | None = None, before: tuple[datetime, UUID] | None = None, limit: int
) -> list[Job]:
    """The jobs of `owner`, newest first, at most `limit`, those behind the key `before` (submission time and id). `state`: as shown."""
    jobs: QuerySet[Job] = Job.objects.filter(owner=owner).order_by("-submitted_at", "-pk")
    if state is not None:
        jobs = jobs.filter(_shown_as(state))
    if label is not None:
        jobs = jobs.filter(label=label)
    if before is not None:
        submitted_at, job_id = before
        jobs = jobs.filter(Q(submitted_at__lt=submitted_at) | Q(submitted_at=submitted_at, pk__lt=job_id))
    return list(jobs[:limit])


def inputs_of(*, job: Job) -> list[JobInput]:
    """The job's inputs by path, blobs fetched along."""
    return list(JobInput.objects.filter(job=job).select_related("blob").defer("blob__data").order_by("path"))


def replicas_of(*, job: Job) -> list[Replica]:
    """The job's replicas that may be shown, oldest first, with node, receipt and evidence fetched along: three statements, however many."""
    found = Replica.objects.filter(job=job).select_related("node", "receipt").prefetch_related("evidence").order_by("created_at", "pk")
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


def states_shown(jobs: Sequence[Job]) -> dict[UUID, JobState]:
    """The state of each job as it may be shown. At most one statement."""
    waiting = [job.pk for job in jobs if job.state == JobState.QUEUED and is_veiled(job)]
    taken = set(Replica.objects.filter(job__in=waiting, leased_at__isnull=False).values_list("job", flat=True)) if waiting else set()
    return {
        job.pk: disclosure.job_state_shown(state=JobState(job.state), was_taken=job.state != JobState.QUEUED or job.pk in taken)
        if is_veiled(job)
        else JobState(job.state)
        for job in jobs
    }


def image_closed_until(*, job: Job) -> datetime | None:
    """Till when the circuit breaker of the job's image keeps its replicas in the queue; None: it doesn't."""
    if JobState(job.state) not in JOB_OPEN:
        return None
    closed = JobKind.objects.filter(
        image_name=job.image["name"], job_type=job.job_type, credit_rate_micro=job.credit_rate_micro, closed_until__gt=timezone.now()
    )
    return closed.values_list("closed_until", flat=True).first()


def _shown_as(state: JobState) -> Q:
    veiled = Q(policy=RedundancyPolicy.SPOT) | Q(copies__gt=1)
    match state:
        case JobState.QUEUED:
            return Q(state=JobState.QUEUED) & ~(veiled & Q(_TAKEN))
        case JobState.RUNNING:
            return Q(state=JobState.RUNNING) | (veiled & (Q(state=JobState.VERIFYING) | Q(_TAKEN, state=JobState.QUEUED)))
        case JobState.VERIFYING:
            return Q(state=JobState.VERIFYING) & ~veiled
        case JobState.DISPUTED | JobState.COMPLETED | JobState.FAILED | JobState.CANCELLED:
            return Q(state=state)


def jobs_untaken() -> QuerySet[Job]:
    """The jobs that wait for their first host."""
    return Job.objects.filter(~_TAKEN, state=JobState.QUEUED)


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
    queues: dict[str, Mapping[str, Any]] = {
        row["tier"]: row
        for row in Replica.objects.filter(_UNTAKEN_REPLICA, state=ReplicaState.QUEUED)
        .values("tier")
        .annotate(depth=Count("pk"), oldest=Min("created_at"))
    }
    fleet: dict[str, Mapping[str, Any]] = {
        row["tier"]: row
        for row in Node.objects.exclude(state=NodeState.REVOKED)
        .values("tier")
        .annotate(registered=Count("pk"), seen=Count("pk", filter=Q(last_seen_at__gte=now - timedelta(seconds=SEEN_SECONDS))))
    }
    counted = {row["state"]: row["count"] for row in Job.objects.values("state").annotate(count=Count("pk"))}
    again = Job.objects.filter(_TAKEN, state=JobState.QUEUED).count()
    verifying = counted.pop(JobState.VERIFYING, 0)
    counted[JobState.QUEUED] = counted.get(JobState.QUEUED, 0) - again
    counted[JobState.RUNNING] = counted.get(JobState.RUNNING, 0) + verifying + again
    checkpoint = checkpoint_latest()
    newest_leaf = LogLeaf.objects.order_by("-index").values_list("index", flat=True).first()
    return {
        "time": now,
        "queues": [_queue_of(tier, queues.get(tier.value, {}), now) for tier in Tier],
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


def _queue_of(tier: Tier, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    oldest = row.get("oldest")
    return {"tier": tier, "depth": row.get("depth", 0), "oldest_wait_seconds": (now - oldest).total_seconds() if oldest else None}
