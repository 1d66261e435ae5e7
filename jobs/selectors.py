"""Reads of jobs, as their owners and the public may have them. What isn't the caller's is answered like what isn't there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone

from jobs.models import Job, JobEvent, JobInput, Replica
from jobs.states import JOB_TERMINAL, JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest
from ledger.models import LogLeaf
from nodes.models import Node, NodeState
from people.models import User
from workers.protocol.messages import Tier

SEEN_SECONDS: Final = 120
"""A node counts as online when its last exchange is at most this long ago."""


def job_of(*, owner: User, job_id: UUID) -> Job | None:
    """The job if it is `owner`'s, else None, whoever else may have it."""
    return Job.objects.select_related("owner", "canonical_replica").filter(owner=owner, pk=job_id).first()


def jobs_of(
    *, owner: User, state: JobState | None = None, label: str | None = None, before: tuple[datetime, UUID] | None = None, limit: int
) -> list[Job]:
    """The jobs of `owner`, newest first, at most `limit`, those behind the key `before` (submission time and id)."""
    jobs: QuerySet[Job] = Job.objects.filter(owner=owner).order_by("-submitted_at", "-pk")
    if state is not None:
        jobs = jobs.filter(state=state)
    if label is not None:
        jobs = jobs.filter(label=label)
    if before is not None:
        submitted_at, job_id = before
        jobs = jobs.filter(Q(submitted_at__lt=submitted_at) | Q(submitted_at=submitted_at, pk__lt=job_id))
    return list(jobs[:limit])


def inputs_of(*, job: Job) -> list[JobInput]:
    """The job's inputs by path, blobs fetched along."""
    return list(JobInput.objects.filter(job=job).select_related("blob").order_by("path"))


def replicas_of(*, job: Job) -> list[Replica]:
    """The job's replicas, oldest first, with node, receipt and evidence fetched along: three statements, however many."""
    return list(Replica.objects.filter(job=job).select_related("node", "receipt").prefetch_related("evidence").order_by("created_at", "pk"))


def events_of(*, job: Job, after: int, limit: int) -> list[JobEvent]:
    """The job's events with an id beyond `after`, oldest first. Those that tell about results only once the job is concluded."""
    events: QuerySet[JobEvent] = JobEvent.objects.filter(job=job, pk__gt=after).order_by("pk")
    if not is_concluded(job):
        events = events.filter(public=True)
    return list(events[:limit])


def is_concluded(job: Job) -> bool:
    """Whether what its replicas delivered may be shown to its owner."""
    return JobState(job.state) in JOB_TERMINAL


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
    """What the database says now: queues and nodes by tier, jobs by state, the ledger's size and newest checkpoint. No names, no labels."""
    now = timezone.now()
    queues: dict[str, Mapping[str, Any]] = {
        row["tier"]: row
        for row in Replica.objects.filter(state=ReplicaState.QUEUED).values("tier").annotate(depth=Count("pk"), oldest=Min("created_at"))
    }
    fleet: dict[str, Mapping[str, Any]] = {
        row["tier"]: row
        for row in Node.objects.exclude(state=NodeState.REVOKED)
        .values("tier")
        .annotate(registered=Count("pk"), seen=Count("pk", filter=Q(last_seen_at__gte=now - timedelta(seconds=SEEN_SECONDS))))
    }
    counted = {row["state"]: row["count"] for row in Job.objects.values("state").annotate(count=Count("pk"))}
    checkpoint = checkpoint_latest()
    return {
        "time": now,
        "queues": [_queue_of(tier, queues.get(tier.value, {}), now) for tier in Tier],
        "nodes": [
            {"tier": tier, "registered": fleet.get(tier.value, {}).get("registered", 0), "seen": fleet.get(tier.value, {}).get("seen", 0)}
            for tier in Tier
        ],
        "jobs": {state.value: counted.get(state.value, 0) for state in JobState},
        "ledger": {
            "leaves": LogLeaf.objects.count(),
            "checkpoint_size": checkpoint.size if checkpoint else 0,
            "checkpoint_at": checkpoint.created_at if checkpoint else None,
        },
    }


def _queue_of(tier: Tier, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    oldest = row.get("oldest")
    return {"tier": tier, "depth": row.get("depth", 0), "oldest_wait_seconds": (now - oldest).total_seconds() if oldest else None}
