"""What waits for moderators, oldest first, and what they did last: read in one go, in a bounded number of statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import CharField, Count, Exists, F, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Cast
from django.urls import reverse

from jobs.models import ImageBreaker, ImageRequest, Job, Replica
from jobs.states import JobState
from nodes.models import Node, NodeState
from people.models import ApplicationState, ResearcherApplication, User
from people.moderation.models import Act, ActKind
from people.moderation.selectors import acts_named
from people.moderation.trail import lacks_second_factor

SHOWN: Final = 5
"""Of each queue, on the desk; the rest are in its list."""
ACTS_SHOWN: Final = 12


@dataclass(frozen=True)
class Waiting:
    """Something that a moderator may do something about: what it is, who or what else belongs to it, and where."""

    what: str
    about: str
    since: datetime | None
    path: str
    until: datetime | None = None


@dataclass(frozen=True)
class Queue:
    """One kind of what waits. `oldest_at`: since when the first of them does; `until`: by when the first has to be done."""

    key: str
    name: str
    count: int
    oldest_at: datetime | None
    rows: list[Waiting]
    list_path: str
    none: str
    """What it means that there is nothing."""
    act: str
    """What one does about a row."""
    until: datetime | None = None
    note: str = ""


@dataclass(frozen=True)
class Desk:
    """`is_refused`: whether the moderator's acts are, until they have a second factor."""

    queues: list[Queue]
    acts: list[Act]
    is_refused: bool

    @property
    def waiting(self) -> int:
        return sum(queue.count for queue in self.queues)


def desk_read(*, moderator: User, now: datetime) -> Desk:
    """The desk of a moderator: disputes in which they have an interest are counted, and for others to rule on."""
    acts = acts_named()[:ACTS_SHOWN]
    queues = [_applications(), _disputes(moderator), _images(), _breakers(now), _quarantined()]
    return Desk(queues, list(acts), lacks_second_factor(moderator))


def _applications() -> Queue:
    waiting = ResearcherApplication.objects.filter(state=ApplicationState.OPEN)
    count, oldest_at = _counted(waiting, "created_at")
    rows = [
        Waiting(one.full_name, one.affiliation, one.created_at, reverse("admin:people_researcherapplication_change", args=[one.pk]))
        for one in waiting.order_by("created_at")[:SHOWN]
    ]
    path = reverse("admin:people_researcherapplication_changelist") + "?state__exact=open"
    return Queue("applications", "Applications", count, oldest_at, rows, path, "Nobody waits for a decision on submitting jobs.", "decide")


def _disputes(moderator: User) -> Queue:
    disputed = Job.objects.filter(state=JobState.DISPUTED)
    interested = Q(owner=moderator) | Q(Exists(Replica.objects.filter(job=OuterRef("pk"), node_owner=moderator)))
    found = disputed.aggregate(all=Count("pk"), mine=Count("pk", filter=interested))
    waiting = disputed.exclude(interested)
    until = waiting.aggregate(first=Min("dispute_deadline_at"))["first"]
    replicas = Replica.objects.filter(job=OuterRef("pk"), state="reported").values("job").annotate(count=Count("pk")).values("count")
    rows = [
        Waiting(
            one.label,
            f"{one.job_type}, {one.reported} results",
            None,
            reverse("admin:jobs_job_dispute", args=[one.pk]),
            one.dispute_deadline_at,
        )
        for one in waiting.annotate(reported=Subquery(replicas)).order_by("dispute_deadline_at")[:SHOWN]
    ]
    note = f"{found['mine']} more in which you have an interest: others rule on them." if found["mine"] else ""
    path = reverse("admin:jobs_job_changelist") + "?state__exact=disputed"
    none = "No dispute waits for you: all results agree, or are ruled on."
    return Queue("disputes", "Disputes", found["all"] - found["mine"], None, rows, path, none, "rule", until, note)


def _images() -> Queue:
    waiting = ImageRequest.objects.filter(is_approved=None)
    count, oldest_at = _counted(waiting, "asked_at")
    rows = [
        Waiting(one.name, f"asked for by {one.asked_by}", one.asked_at, reverse("admin:jobs_imagerequest_change", args=[one.pk]))
        for one in waiting.select_related("asked_by").order_by("asked_at")[:SHOWN]
    ]
    path = reverse("admin:jobs_imagerequest_changelist") + "?is_approved__isnull=True"
    return Queue("requests", "Images asked for", count, oldest_at, rows, path, "Nobody waits for an image.", "decide")


def _breakers(now: datetime) -> Queue:
    waiting = ImageBreaker.objects.filter(closed_until__gt=now)
    count, oldest_at = _counted(waiting, "closed_at")
    rows = [
        Waiting(
            one.image_name,
            f"{one.code}, closed {one.times} times" if one.times > 1 else one.code,
            one.closed_at,
            reverse("admin:jobs_imagebreaker_change", args=[one.pk]),
            one.closed_until,
        )
        for one in waiting.order_by("closed_at")[:SHOWN]
    ]
    path = reverse("admin:jobs_imagebreaker_changelist")
    return Queue("images", "Images held back", count, oldest_at, rows, path, "No image is held back: jobs of all are given out.", "look")


def _quarantined() -> Queue:
    """Since when, and why, is in the trail."""
    waiting = Node.objects.filter(state=NodeState.QUARANTINED)
    acts = Act.objects.filter(kind=ActKind.NODE_QUARANTINED, about_table="nodes.node", about_key=Cast(OuterRef("pk"), CharField()))
    newest = acts.order_by("-at")
    dated = waiting.annotate(since=Subquery(newest.values("at")[:1]), reason=Subquery(newest.values("reason")[:1]))
    rows = [
        Waiting(node.name, node.reason or "", node.since, reverse("admin:nodes_node_change", args=[node.pk]))
        for node in dated.order_by(F("since").asc(nulls_last=True), "pk")[:SHOWN]
    ]
    path = reverse("admin:nodes_node_changelist") + "?state__exact=quarantined"
    oldest_at = rows[0].since if rows else None
    return Queue("nodes", "Nodes in quarantine", waiting.count(), oldest_at, rows, path, "No node is set apart.", "look")


def _counted(waiting: QuerySet[Any], since: str) -> tuple[int, datetime | None]:
    found = waiting.aggregate(count=Count("pk"), oldest=Min(since))
    return found["count"], found["oldest"]
