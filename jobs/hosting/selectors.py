"""What the owner of a node may know of its work: what order and host said, and afterwards what it earned.

1. Never the job's id, label, title, owner, or how often it is run: orders don't tell them, so pages don't either.
2. What a host has delivered is `delivered` until the job is concluded, whatever has become of it in between (jobs/evidence/disclosure.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import Count, Q, Sum
from pydantic import ValidationError

from jobs.evidence.disclosure import is_concluded
from jobs.models import Replica
from jobs.states import REPLICA_ENDED, REPLICA_LIVE, REPLICA_VOTES, JobState, ReplicaState
from ledger.models import LogLeaf
from nodes.models import Node
from workers.protocol.messages.exchange import LeaseReport

DELIVERED: Final = "delivered"
EARNED_DAYS: Final = 30
_LIVE: Final = [state.value for state in REPLICA_LIVE]


@dataclass(frozen=True)
class Run:
    """One run of a node. `paid_micro` and `entry`, its payment's place in the public log, are None before the job is concluded."""

    replica: Replica
    state: str
    report: LeaseReport | None
    paid_micro: int | None
    entry: int | None

    @property
    def job_type(self) -> str:
        return self.replica.job.job_type

    @property
    def image(self) -> str:
        return str(self.replica.job.image.get("name", ""))

    @property
    def progress_percent(self) -> int | None:
        return round(100 * self.report.progress) if self.report and self.report.progress is not None else None

    @property
    def is_live(self) -> bool:
        return self.state in REPLICA_LIVE


@dataclass(frozen=True)
class Earned:
    """Accepted runs and what was paid for them."""

    runs: int
    paid_micro: int


def runs_now(*, nodes: Sequence[Node]) -> dict[UUID, list[Run]]:
    """What each of these nodes runs, longest first. One statement."""
    found = Replica.objects.filter(node__in=[node.pk for node in nodes], state__in=_LIVE).select_related("job").defer("job__descriptor")
    runs: dict[UUID, list[Run]] = {node.pk: [] for node in nodes}
    for replica in found.order_by("leased_at", "pk"):
        if replica.node_id is not None:
            runs[replica.node_id].append(_run(replica, {}))
    return runs


def runs_before(*, node: Node, before: UUID | None = None, limit: int) -> list[Run]:
    """What the node has delivered, failed or lost, newest lease first, behind its run `before`. Three statements at most."""
    ended = Replica.objects.filter(node=node, state__in=sorted(REPLICA_ENDED), leased_at__isnull=False)
    last = ended.filter(pk=before).values_list("leased_at", flat=True).first() if before is not None else None
    if last is not None:
        ended = ended.filter(leased_at__lte=last).exclude(leased_at=last, pk__gte=before)
    replicas = list(ended.select_related("job").defer("job__descriptor", "order_envelope").order_by("-leased_at", "-pk")[:limit])
    keys = {f"payment:{replica.pk}": replica.pk for replica in replicas if replica.paid_micro and is_concluded(JobState(replica.job.state))}
    leaves = (
        {keys[key]: index for key, index in LogLeaf.objects.filter(item__key__in=keys).values_list("item__key", "index")} if keys else {}
    )
    return [_run(replica, leaves) for replica in replicas]


def run_first(*, node: Node) -> Run | None:
    """The node's first run that was not lost: what a contributor waits for when a machine has joined."""
    ended = [ReplicaState.EXPIRED, ReplicaState.FAILED, ReplicaState.CANCELLED]
    taken = Replica.objects.filter(node=node, leased_at__isnull=False).exclude(state__in=ended)
    replica = taken.select_related("job").defer("job__descriptor", "order_envelope").order_by("leased_at", "pk").first()
    return _run(replica, {}) if replica else None


def run_first_paid(*, node: Node) -> Run | None:
    """The node's first run that was paid, with its payment's place in the public log."""
    paid = Replica.objects.filter(node=node, state=ReplicaState.ACCEPTED, paid_micro__gt=0).select_related("job").defer("job__descriptor")
    replica = paid.order_by("concluded_at", "pk").first()
    if replica is None or not is_concluded(JobState(replica.job.state)):
        return None
    leaf = LogLeaf.objects.filter(item__key=f"payment:{replica.pk}").values_list("index", flat=True).first()
    return _run(replica, {} if leaf is None else {replica.pk: leaf})


def earned(*, node: Node, now: datetime) -> Earned:
    """What the node's agreeing runs of the last EARNED_DAYS have brought."""
    since = Q(concluded_at__gte=now - timedelta(days=EARNED_DAYS))
    row = Replica.objects.filter(since, node=node, state=ReplicaState.ACCEPTED).aggregate(runs=Count("pk"), paid=Sum("paid_micro"))
    return Earned(row["runs"], row["paid"] or 0)


def _run(replica: Replica, leaves: dict[UUID, int]) -> Run:
    concluded = is_concluded(JobState(replica.job.state))
    state = DELIVERED if replica.state in REPLICA_VOTES and not concluded else replica.state
    return Run(
        replica=replica,
        state=state,
        report=_report(replica) if replica.state in REPLICA_LIVE else None,
        paid_micro=replica.paid_micro if concluded else None,
        entry=leaves.get(replica.pk),
    )


def _report(replica: Replica) -> LeaseReport | None:
    try:
        return LeaseReport.model_validate(replica.progress) if replica.progress else None
    except ValidationError:  # of an older version
        return None
