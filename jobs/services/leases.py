"""Leases: taken by exchanges, renewed by them, ended by the reaper. The database alone says who holds what.

Locks are taken in one order: job, replica, node, account; several of a kind in the order of their ids. What locks many jobs (a claim, the
reaper, first reports of running) waits for none of them and passes over those that others hold, so that no two of them can wait for each
other.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet, Subquery, Value

from jobs.matching.claims import Claim, queues_served, replicas_claim
from jobs.models import Job, JobInput, Replica
from jobs.orders import order_build, order_sign
from jobs.services.closing import job_fail
from jobs.services.exchanges import exchange_is_superseded
from jobs.services.failures import replica_substitute
from jobs.services.outages import expiry_horizon, was_heard
from jobs.services.replicas import replicas_queue_again
from jobs.services.spot import spot_draw
from jobs.services.spot_checks import Standing, spot_check_end
from jobs.services.transitions import JobStep, ReplicaStep, Step, job_states_derive, replica_transition, steps_take
from jobs.states import JOB_OPEN, REPLICA_LIVE, JobState, ReplicaState
from jobs.timed_ids import timed_id_make
from nodes.models import Node, NodeState
from nodes.services import node_revoke
from workers.protocol.messages.exchange import Command, CommandKind, FreeResources, LeaseReport, Renewal, Stage, Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.plurals import counted

log = logging.getLogger(__name__)

ORDERS_BYTES_MAX: Final = 8 * 2**20
"""Envelopes of one answer, unless a single one is larger; a host reads twice as much (workers/portal.py)."""

REAP_LEASES_MAX: Final = 2000
"""Leases that one run of the reaper expires; beat runs it again in seconds."""

REAP_BATCH: Final = 200
"""Leases that are expired by one transaction."""

DEADLINES_MAX: Final = 500
"""Jobs past their queue deadline that are looked for at once. When so many were ended, the rest is for the next run."""

QUEUE_PATIENCE: Final = timedelta(minutes=10)
"""For so long after an outage of the portal, or after their image was closed, jobs wait for hosts to come back, whatever their deadline."""

_RUNNING_STAGES: Final = frozenset({Stage.RUNNING, Stage.ARCHIVING, Stage.UPLOADING})

# Locked in the order in which receipts lock them: a host may send both at once.
_RENEW: Final = """
WITH locked AS (
  SELECT id FROM jobs_replica WHERE lease_id = ANY(%(lease_ids)s) AND node_id = %(node)s AND state = ANY(%(live)s)
  ORDER BY id FOR NO KEY UPDATE
)
UPDATE jobs_replica r SET progress = v.progress,
       lease_expires_at = greatest(r.lease_expires_at, least(%(until)s, r.deadline_at + make_interval(secs => %(lease_seconds)s)))
FROM (SELECT * FROM unnest(%(lease_ids)s::uuid[], %(progress)s::jsonb[]) AS u(lease_id, progress)) v, locked
WHERE r.id = locked.id AND r.lease_id = v.lease_id AND r.state = ANY(%(live)s)
RETURNING r.lease_id, r.lease_expires_at, r.state
"""


@dataclass(frozen=True)
class Renewed:
    """What the reports of an exchange led to."""

    renewals: list[Renewal] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


def leases_claim(
    *, node: Node, request_id: UUID, wanted: Sequence[Tier], free: FreeResources, wishes: Wishes, now: datetime
) -> list[Replica]:
    """The live leases that exchange `request_id` of this node took, or takes now; `[]` when there is nothing for it.

    The same request id gives the same leases, also while two of its exchanges run at once.
    """
    tiers = queues_served(node=node, wanted=wanted)
    if free.slots > 0 and tiers and node.state == NodeState.ACTIVE:
        try:
            taken = _claim(node, request_id, now, tiers=tiers, free=free, wishes=wishes)
        except IntegrityError:
            # Between our look and our write, a late receipt of the same owner became a vote on the job. Now we see it.
            taken = _claim(node, request_id, now, tiers=tiers, free=free, wishes=wishes)
        if taken:
            return taken
    return leases_of_request(node=node, request_id=request_id)


def leases_of_request(*, node: Node, request_id: UUID) -> list[Replica]:
    """The live leases that exchange `request_id` of this node took, oldest first."""
    return list(Replica.objects.filter(node=node, lease_request_id=request_id, state__in=REPLICA_LIVE).order_by("leased_at", "pk"))


def leases_renew(*, node: Node, reports: Sequence[LeaseReport], now: datetime) -> Renewed:
    """Renews what is live of the reported leases, stores their progress, and says which ones the host must stop.

    A renewal never goes beyond the order's deadline by more than a lease. An expired lease is not revived: the host may
    go on and report late. A lease that this node doesn't hold is to be stopped, whoever else may hold it.
    """
    if not reports:
        return Renewed()
    by_id = {report.lease_id: report for report in sorted(reports, key=lambda report: report.lease_id)}
    with connection.cursor() as cursor:
        cursor.execute(
            _RENEW,
            {
                "until": now + timedelta(seconds=settings.NEXA_LEASE_SECONDS),
                "lease_seconds": settings.NEXA_LEASE_SECONDS,
                "lease_ids": list(by_id),
                "progress": [json.dumps(report.model_dump(mode="json")) for report in by_id.values()],
                "node": node.pk,
                "live": [state.value for state in REPLICA_LIVE],
            },
        )
        rows = cursor.fetchall()
    _running_record([lease_id for lease_id, _, state in rows if state == ReplicaState.LEASED and by_id[lease_id].stage in _RUNNING_STAGES])
    renewals = [Renewal(lease_id=lease_id, expires_at=expires_at) for lease_id, expires_at, _ in rows]
    ended = by_id.keys() - {renewal.lease_id for renewal in renewals}
    return Renewed(renewals=renewals, commands=cancel_commands(node=node, lease_ids=ended) if ended else [])


def cancel_commands(*, node: Node, lease_ids: Sequence[UUID] | set[UUID]) -> list[Command]:
    """Which of these leases the host must stop, and why. One query. Leases that are live, or expired and still useful, are not named."""
    if not lease_ids:
        return []
    found = {
        replica.lease_id: replica
        for replica in Replica.objects.filter(node=node, lease_id__in=lease_ids)
        .select_related("job")
        .only("lease_id", "state", "cancel_reason", "job__state")
    }
    commands = []
    for lease_id in sorted(lease_ids):
        replica = found.get(lease_id)
        if replica is None:
            reason = "This portal knows no such lease of this node."
        elif replica.state == ReplicaState.CANCELLED:
            reason = replica.cancel_reason or "The job needs this run no more."
        elif replica.state == ReplicaState.EXPIRED and JobState(replica.job.state) not in JOB_OPEN:
            reason = "The lease expired, and the job was concluded since."
        else:
            continue
        commands.append(Command(kind=CommandKind.CANCEL, lease_id=lease_id, reason=reason))
    return commands


def leases_reap(*, now: datetime) -> int:
    """Expires leases whose hosts went silent or were revoked, and queues substitutes; returns how many. Idempotent, also at once."""
    overdue = Replica.objects.filter(state__in=REPLICA_LIVE).filter(_overdue(now))
    found = overdue.order_by("lease_expires_at").values_list("pk", "job_id")[:REAP_LEASES_MAX]
    return _leases_expire(list(found), now)


def node_leave(*, node: Node, now: datetime) -> int:
    """Revokes the node and gives its live leases back at once; returns how many. Idempotent."""
    node_revoke(node=node)
    found = Replica.objects.filter(node=node, state__in=REPLICA_LIVE).values_list("pk", "job_id")
    return _leases_expire(list(found), now)


def queue_deadlines_enforce(*, now: datetime) -> int:
    """Ends queued jobs of which a replica waited for the whole queue deadline without being taken; returns how many. They fail, unless a
    result may stand for which only a spot check was wanted (jobs/services/spot_checks.py).

    None while hosts could not take them: while the portal is away or a circuit breaker has closed their image, and QUEUE_PATIENCE after.
    Each in a transaction of its own, since it moves credits; one that can't be ended is logged, and keeps no other from it.
    """
    if not was_heard(now=now, for_=QUEUE_PATIENCE):
        return 0
    late = _late_jobs(now)
    page = late
    ended = 0
    while ended < DEADLINES_MAX:
        found = list(page[:DEADLINES_MAX])
        ended += sum(_queue_deadline_enforce(job_id, now) for _, job_id in found)
        if len(found) < DEADLINES_MAX:
            break
        deadline_at, job_id = found[-1]
        page = late.filter(Q(queue_deadline_at__gt=deadline_at) | Q(pk__gt=job_id), queue_deadline_at__gte=deadline_at)
    return ended


def _late_jobs(now: datetime) -> QuerySet[Job, tuple[datetime, UUID]]:
    """`(queue deadline, id)` of jobs that nobody took in time though hosts could have, those that are late the longest first."""
    waiting = Replica.objects.filter(job=OuterRef("pk"), state=ReplicaState.QUEUED).order_by("created_at").values("created_at")[:1]
    # A substitute has the same time to be taken as the first replica had.
    late = Q(waiting_since=None) | Q(waiting_since__lte=Value(now) - (F("queue_deadline_at") - F("submitted_at")))
    closed = Replica.objects.filter(job=OuterRef("pk"), state=ReplicaState.QUEUED, kind__closed_until__gt=now - QUEUE_PATIENCE)
    jobs = Job.objects.filter(state=JobState.QUEUED, queue_deadline_at__lte=now).annotate(waiting_since=Subquery(waiting)).filter(late)
    return jobs.filter(~Exists(closed)).order_by("queue_deadline_at", "pk").values_list("queue_deadline_at", "pk")


def _claim(node: Node, request_id: UUID, now: datetime, *, tiers: Sequence[Tier], free: FreeResources, wishes: Wishes) -> list[Replica]:
    with transaction.atomic():
        claims = replicas_claim(node=node, tiers=tiers, free=free, wishes=wishes)
        if not claims:
            return []
        # Exchanges of one node take their leases one after the other; only now, so that idle ones never meet.
        locked = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        taken = leases_of_request(node=node, request_id=request_id)
        # An exchange that was signed before its key was rotated takes nothing: nobody could read the order.
        is_out = locked.state != NodeState.ACTIVE or locked.key_id != node.key_id
        if taken or is_out or exchange_is_superseded(node=node, request_id=request_id):
            return taken
        taken = _leases_take(claims, locked, request_id, now)
        if locked.last_no_work is not None:  # why it got no work before is no news any more
            locked.last_no_work = None
            locked.save(update_fields=["last_no_work"])
        return taken


def _leases_take(claims: Sequence[Claim], node: Node, request_id: UUID, now: datetime) -> list[Replica]:
    """Signs an order for each claim, draws for its job if it is a `spot` job's first, and takes the leases.

    Claims whose orders would make the answer too long stay queued.
    """
    inputs: dict[UUID, list[JobInput]] = {claim.job.pk: [] for claim in claims}
    for one in JobInput.objects.filter(job__in=inputs).select_related("blob").defer("blob__data").order_by("path"):
        inputs[one.job_id].append(one)
    steps: list[Step] = []
    taken: list[Replica] = []
    jobs: list[Job] = []
    size_bytes = 0
    for claim in claims:
        lease_id = timed_id_make()
        order = order_build(
            replica=claim.replica, job=claim.job, inputs=inputs[claim.job.pk], lease_id=lease_id, node_key_id=node.key_id, now=now
        )
        envelope, order_digest = order_sign(order)
        size_bytes += len(envelope)
        if taken and size_bytes > ORDERS_BYTES_MAX:
            break
        fields = {
            "node": node,
            "node_key_id": node.key_id,
            "node_owner_id": node.owner_id,
            "lease_id": lease_id,
            "lease_request_id": request_id,
            "leased_at": now,
            "lease_expires_at": now + timedelta(seconds=settings.NEXA_LEASE_SECONDS),
            "deadline_at": order.deadline_at,
            "order_envelope": envelope,
            "order_digest": order_digest,
        }
        taken.append(claim.replica)
        jobs.append(claim.job)
        steps.append(ReplicaStep(claim.replica, ReplicaState.LEASED, fields=fields))
        if claim.job.state != JobState.RUNNING:
            steps.append(JobStep(claim.job, JobState.RUNNING))
    spot_draw(jobs, now)
    steps_take(steps)
    return taken


def _running_record(lease_ids: Sequence[UUID]) -> None:
    """The first reports that their containers run. Where somebody else holds the job, the next report records it."""
    if not lease_ids:
        return
    with transaction.atomic():
        reported = Replica.objects.filter(lease_id__in=lease_ids).values("job_id")
        jobs = Job.objects.select_for_update(no_key=True, skip_locked=True).filter(pk__in=reported)
        leased = Replica.objects.select_for_update(no_key=True).filter(lease_id__in=lease_ids, state=ReplicaState.LEASED).order_by("pk")
        steps_take([ReplicaStep(replica, ReplicaState.RUNNING) for replica in leased.filter(job__in=[job.pk for job in jobs])])


def _overdue(now: datetime) -> Q:
    lease = timedelta(seconds=settings.NEXA_LEASE_SECONDS)
    # A revoked node's key opens nothing: it can neither renew nor report, so nobody waits for its leases.
    return Q(lease_expires_at__lte=expiry_horizon(now=now)) | Q(deadline_at__lte=now - lease) | Q(node__state=NodeState.REVOKED)


def _leases_expire(found: Sequence[tuple[UUID, UUID]], now: datetime) -> int:
    """Expires the leases `(replica, job)` that are overdue, together where that is possible; one that can't be expired is logged."""
    expired = 0
    for start in range(0, len(found), REAP_BATCH):
        batch = found[start : start + REAP_BATCH]
        try:
            count, alone = _expire_together(batch, now)
        except Exception:  # whatever one of them is about, the others shall not wait for it
            log.exception("%d leases could not be expired together; each is tried alone", len(batch))
            count, alone = 0, list(batch)
        expired += count + sum(_expire_alone(replica_id, job_id, now) for replica_id, job_id in alone)
    return expired


def _expire_together(found: Sequence[tuple[UUID, UUID]], now: datetime) -> tuple[int, list[tuple[UUID, UUID]]]:
    """How many were expired, and those that end their job, which moves credits and is done alone. Passes over what others have locked."""
    with transaction.atomic():
        job_ids = {job_id for _, job_id in found}
        jobs = {job.pk: job for job in Job.objects.select_for_update(no_key=True, skip_locked=True).filter(pk__in=job_ids)}
        # Looked for again, under the lock: they may have been renewed or reported since.
        still = Replica.objects.select_for_update(of=("self",), no_key=True).filter(state__in=REPLICA_LIVE, job__in=list(jobs))
        overdue = list(still.filter(_overdue(now), pk__in=[replica_id for replica_id, _ in found]).order_by("pk"))  # as renewals lock them
        used = Counter(replica.job_id for replica in overdue)
        ended = Replica.objects.filter(job__in=list(used), state__in=[ReplicaState.EXPIRED, ReplicaState.FAILED])
        used.update(ended.values_list("job_id", flat=True))
        is_open = {job_id: JobState(job.state) in JOB_OPEN for job_id, job in jobs.items()}
        last = {job_id for job_id, count in used.items() if is_open[job_id] and count >= settings.NEXA_ATTEMPTS_MAX}
        ending = [replica for replica in overdue if replica.job_id not in last]
        steps_take([ReplicaStep(replica, ReplicaState.EXPIRED) for replica in ending])
        replaced = sorted((replica for replica in ending if is_open[replica.job_id]), key=lambda replica: replica.created_at)
        replicas_queue_again(like=replaced)
        job_states_derive(jobs=[jobs[job_id] for job_id in {replica.job_id for replica in replaced}])
        return len(ending), [(replica.pk, replica.job_id) for replica in overdue if replica.job_id in last]


def _expire_alone(replica_id: UUID, job_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            job = Job.objects.select_for_update(no_key=True).get(pk=job_id)
            still = job.replicas.select_for_update(of=("self",), no_key=True).filter(pk=replica_id, state__in=REPLICA_LIVE)
            replica = still.filter(_overdue(now)).first()
            if replica is None:
                return False
            replica_transition(replica=replica, to=ReplicaState.EXPIRED)
            if JobState(job.state) in JOB_OPEN:
                replica_substitute(job=job)
            return True
    except Exception:  # as above
        log.exception("the lease of replica %s could not be expired", replica_id)
        return False


def _queue_deadline_enforce(job_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            job = Job.objects.select_for_update(no_key=True).get(pk=job_id)
            oldest = job.replicas.filter(state=ReplicaState.QUEUED).aggregate(at=Min("created_at"))["at"]
            permitted = job.queue_deadline_at - job.submitted_at
            if job.state != JobState.QUEUED or (oldest is not None and oldest + permitted > now):
                return False  # taken, or stood in for, since it was found
            standing = spot_check_end(job=job, permitted=permitted)
            if standing is not Standing.NONE:
                return standing is not Standing.UNCHECKED
            job_fail(job=job, code="no_eligible_host", message=_no_host_message(job, permitted))
            return True
    except Exception:  # as above
        log.exception("job %s could not be ended for its queue deadline", job_id)
        return False


def _no_host_message(job: Job, permitted: timedelta) -> str:
    needs = job.replicas.order_by("created_at").first()
    asked = (
        f"{counted(needs.cpus, 'core')}, {needs.memory_bytes / 2**30:.1f} GiB of memory, {needs.disk_bytes / 2**30:.1f} GiB of disk "
        f"and {counted(needs.gpus, 'GPU')}"
        if needs
        else "nothing"
    )
    return (
        f"No host took it within {counted(round(permitted.total_seconds()), 'second')}. "
        f"It needs a node of tier {job.tier} or above with {asked} free, of an owner who has not run it yet. "
        "Ask for less, wait longer, or find more hosts."
    )
