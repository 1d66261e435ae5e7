"""What the API says about jobs: one model an answer, made from rows. What is hidden until the conclusion is left out here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from jobs import selectors
from jobs.checking.codes import evidence_fault
from jobs.evidence import disclosure
from jobs.faults import FaultClass, failure_fault
from jobs.models import Job, JobEvent, JobInput, Replica, Ruling
from jobs.states import JobState, ReplicaState
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ImageReference


class Answer(BaseModel):
    """Base of all answers. Credits are millionths, as decimal strings: they may exceed what JSON numbers carry."""

    model_config = ConfigDict(frozen=True)


class JobSummary(Answer):
    """A job in a list. `job_id` is the submitter's label, `id` ours.

    Of a job of several copies, or a `spot` one, `state` is `running` from the first lease to the conclusion.
    """

    id: UUID
    job_id: str
    type: str
    title: str
    state: JobState
    tier: Tier
    submitted_at: AwareDatetime
    concluded_at: AwareDatetime | None
    failure_code: str


class JobPage(Answer):
    """`next` is the `before` of the following page, null on the last one."""

    jobs: list[JobSummary]
    next: str | None


class ArrayJob(Answer):
    """A job of an array. `created`: made by this request, rather than by the same one before."""

    id: UUID
    job_id: str
    state: JobState
    created: bool


class ArrayAnswer(Answer):
    """A job for each item, in their order."""

    jobs: list[ArrayJob]


class InputAnswer(Answer):
    """One input as resolved at submission."""

    path: str
    digest: str
    size_bytes: int


class DisputeAnswer(Answer):
    """A dispute that waits. Without a ruling by `deadline_at`, the job fails, nobody is paid and the reservation comes back."""

    deadline_at: AwareDatetime


class RulingAnswer(Answer):
    """How a dispute ended, or a spot check that found no host.

    `by_moderator` false: nobody ruled in time. `upheld`: the replica whose result stands; null: none.
    """

    by_moderator: bool
    upheld: UUID | None
    reason: str
    made_at: AwareDatetime


class DrawAnswer(Answer):
    """How a `spot` job was drawn. `key` is null where no key could be used, and it ran twice; `revealed`: the log holds the key itself."""

    key: UUID | None
    share: float | None
    chosen: bool
    revealed: bool


class JobDetail(JobSummary):
    """A job as its owner sees it. `verdict`, `canonical_replica`, `ruling` and `draw` are set once it is concluded.

    `copies` and `quorum` of a `spot` job are 1 until then, chosen or not. `image_closed_until`: till when the circuit breaker of its image
    keeps it in the queue.
    """

    descriptor: dict[str, Any]
    descriptor_digest: str
    image: ImageReference
    inputs: list[InputAnswer]
    policy: str
    copies: int
    quorum: int
    priority: int
    reserved_micro: str
    queue_deadline_at: AwareDatetime
    failure_message: str
    image_closed_until: AwareDatetime | None
    dispute: DisputeAnswer | None
    verdict: dict[str, Any] | None
    canonical_replica: UUID | None
    ruling: RulingAnswer | None
    draw: DrawAnswer | None


class ProgressAnswer(Answer):
    """The newest report of the host that runs a replica."""

    stage: str
    progress: float | None
    message: str
    elapsed_seconds: float | None


class EvidenceAnswer(Answer):
    """One check of a replica, or of a pair. `fault` is the class of a failed one, null where it says nothing about fault."""

    check: str
    passed: bool | None
    code: str
    fault: FaultClass | None
    other: UUID | None
    detail: dict[str, Any]


class ReplicaResult(Answer):
    """What a replica delivered and what became of it; shown once the job is concluded. A result that was never judged stays hidden.

    `archive_digest` and `log_digest` are null where the bytes can't be had: of results that were rejected and none accepted instead.
    """

    verdict: str
    paid_micro: str
    failure_code: str
    fault: FaultClass | None
    failure_message: str
    order_digest: str
    receipt_digest: str | None
    result_digest: str | None
    archive_digest: str | None
    log_digest: str | None
    late: bool
    evidence: list[EvidenceAnswer]


class ReplicaAnswer(Answer):
    """One attempt. `result` is null while the job is open: nobody may learn what another host delivered, nor whether it has."""

    id: UUID
    state: ReplicaState
    tier: Tier
    node: str | None
    created_at: AwareDatetime
    leased_at: AwareDatetime | None
    deadline_at: AwareDatetime | None
    progress: ProgressAnswer | None
    result: ReplicaResult | None


class ReplicaList(Answer):
    """The replicas of a job, oldest first: all once it is concluded; before that, of several copies, as many as its descriptor asks for."""

    replicas: list[ReplicaAnswer]


class EventAnswer(Answer):
    """Something that happened to a job. `id` grows; ask for those behind the last one seen."""

    id: int
    kind: str
    replica: UUID | None
    payload: dict[str, Any]
    created_at: AwareDatetime


class EventPage(Answer):
    """`next` is the `after` that continues behind these events."""

    events: list[EventAnswer]
    next: int


class QueueStatus(Answer):
    """One tier's queue: replicas of jobs of which no host has taken any yet."""

    tier: Tier
    depth: int
    oldest_wait_seconds: float | None


class FleetStatus(Answer):
    """Nodes of one tier: registered and not revoked, and seen in the last two minutes."""

    tier: Tier
    registered: int
    seen: int


class LedgerStatus(Answer):
    """The public log: leaves written, and what the newest signed checkpoint covers."""

    leaves: int
    checkpoint_size: int
    checkpoint_at: AwareDatetime | None


class StatusAnswer(Answer):
    """What the portal is doing now, as its database says. `version` is that of the API."""

    version: str
    time: AwareDatetime
    queues: list[QueueStatus]
    nodes: list[FleetStatus]
    jobs: dict[JobState, int]
    ledger: LedgerStatus


class CostAnswer(Answer):
    """What a descriptor would cost: `reserved_micro` at most, `expected_micro` if its estimate is right."""

    reserved_micro: str
    expected_micro: str
    replicas_max: int


def summaries_of(jobs: Sequence[Job]) -> list[JobSummary]:
    return [JobSummary(**_summary(job)) for job in jobs]


def detail_of(job: Job, inputs: Sequence[JobInput]) -> JobDetail:
    concluded = selectors.is_concluded(job)
    shown = selectors.copies_shown(job)
    is_disputed = job.state == JobState.DISPUTED and job.dispute_deadline_at is not None
    return JobDetail(
        **_summary(job),
        descriptor=job.descriptor,
        descriptor_digest=job.descriptor_digest,
        image=ImageReference.model_validate(job.image),
        inputs=[InputAnswer(path=each.path, digest=each.blob.digest, size_bytes=each.blob.size_bytes) for each in inputs],
        policy=job.policy,
        copies=shown.copies,
        quorum=shown.quorum,
        priority=job.priority,
        reserved_micro=str(job.reserved_micro),
        queue_deadline_at=job.queue_deadline_at,
        failure_message=job.failure_message,
        image_closed_until=selectors.image_closed_until(job=job),
        dispute=DisputeAnswer(deadline_at=job.dispute_deadline_at) if is_disputed else None,
        verdict=job.verdict_summary if concluded else None,
        canonical_replica=job.canonical_replica_id if concluded else None,
        ruling=_ruling_of(job) if concluded else None,
        draw=_draw_of(job) if concluded else None,
    )


def replica_of(replica: Replica, *, job: Job) -> ReplicaAnswer:
    """`job` is the replica's."""
    concluded = selectors.is_concluded(job)
    state = ReplicaState(replica.state)
    veiled = selectors.is_veiled(job)
    if veiled:
        state = disclosure.replica_state_shown(state=state)
    elif not concluded and state in (ReplicaState.ACCEPTED, ReplicaState.REJECTED):
        state = ReplicaState.REPORTED
    report = replica.progress or {}
    progress = ProgressAnswer(
        stage=str(report.get("stage", "")),
        progress=report.get("progress"),
        message="" if veiled else str(report.get("message", "")),
        elapsed_seconds=report.get("elapsed_seconds"),
    )
    return ReplicaAnswer(
        id=replica.pk,
        state=state,
        tier=Tier(replica.tier),
        node=replica.node.name if replica.node else None,
        created_at=replica.created_at,
        leased_at=replica.leased_at,
        deadline_at=replica.deadline_at,
        progress=progress if report else None,
        result=_result_of(replica, job=job) if concluded else None,
    )


def event_of(event: JobEvent) -> EventAnswer:
    return EventAnswer(id=event.pk, kind=event.kind, replica=event.replica_id, payload=event.payload, created_at=event.created_at)


def _summary(job: Job) -> dict[str, Any]:
    return {
        "id": job.pk,
        "job_id": job.label,
        "type": job.job_type,
        "title": job.title,
        "state": selectors.state_shown(job),
        "tier": Tier(job.tier),
        "submitted_at": job.submitted_at,
        "concluded_at": job.concluded_at,
        "failure_code": job.failure_code,
    }


def _ruling_of(job: Job) -> RulingAnswer | None:
    ruling = Ruling.objects.filter(job=job).first()
    if ruling is None:
        return None
    return RulingAnswer(by_moderator=ruling.by_id is not None, upheld=ruling.canonical_id, reason=ruling.reason, made_at=ruling.made_at)


def _draw_of(job: Job) -> DrawAnswer | None:
    if job.spot_chosen is None:
        return None
    key = job.spot_key
    return DrawAnswer(
        key=job.spot_key_id, share=job.spot_share, chosen=job.spot_chosen, revealed=key is not None and key.revealed_at is not None
    )


def _result_of(replica: Replica, *, job: Job) -> ReplicaResult:
    is_shown = disclosure.is_result_shown(job_state=JobState(job.state), state=ReplicaState(replica.state))
    taken = getattr(replica, "receipt", None)
    receipt = taken if is_shown else None
    stored = taken if disclosure.is_bytes_shown(job_state=JobState(job.state), state=ReplicaState(replica.state)) else None
    return ReplicaResult(
        verdict=replica.verdict if is_shown else "",
        paid_micro=str(replica.paid_micro),
        failure_code=replica.failure_code,
        fault=failure_fault(replica.failure_code),
        failure_message=replica.failure_message,
        order_digest=replica.order_digest,
        receipt_digest=receipt.digest if receipt else None,
        result_digest=(receipt.result_digest or None) if receipt else None,
        archive_digest=stored.archive_id if stored else None,
        log_digest=stored.log_id if stored else None,
        late=taken.late if taken else False,
        evidence=[
            EvidenceAnswer(
                check=each.check_name,
                passed=each.passed,
                code=each.code,
                fault=evidence_fault(each.code),
                other=each.other_id,
                detail=each.detail,
            )
            for each in (replica.evidence.all() if is_shown else ())
        ],
    )
