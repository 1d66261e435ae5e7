"""Conclusion of jobs: verdicts, payments, refunds and terminal states, each job in one short, idempotent transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from jobs.models import Calibration, Evidence, Job, Replica
from jobs.services.closing import job_close, replicas_cancel
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import event_record, job_state_derive, job_transition, replica_transition
from jobs.states import JOB_OPEN, REPLICA_LIVE, REPLICA_VOTES, JobState, ReplicaState
from jobs.verdicts import AskForMore, CheckedReplica, Conclude, Decision, Dispute, NoValidResult, Verdict, Wait, decide, pair
from jobs.verification import CHECK_IMPOSSIBLE, OWN_CHECKS
from ledger.services import Payment, account_of, payment_post, refund_post
from workers.protocol.messages import ReceiptPredicate
from workers.protocol.pay import CLIP_FACTOR, payment_micro

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""`verify_claimed_until` of a replica that is checked and waits for others."""


def job_settle(*, job_id: UUID) -> Decision | None:
    """Decides about a job from its evidence and carries the decision out. None when the job is closed or has nothing to decide.

    Idempotent: run twice, or by two workers, the second finds the job as the first left it.
    """
    with transaction.atomic():
        job = Job.objects.select_for_update().get(pk=job_id)
        if JobState(job.state) not in JOB_OPEN:
            return None
        reported = list(
            job.replicas.filter(state=ReplicaState.REPORTED)
            .select_related("receipt", "node", "node_owner")
            .order_by("receipt__received_at", "pk")
        )
        if not reported:
            return None
        decision = _decide(job, reported)
        for replica in reported:
            replica.verdict = decision.verdicts[replica.pk]
        Replica.objects.bulk_update(reported, ["verdict"])
        _carry_out(job, reported, decision)
        return decision


def _carry_out(job: Job, reported: Sequence[Replica], decision: Decision) -> None:
    match decision:
        case Conclude(canonical=canonical):
            _state_verifying(job)
            _conclude(job, reported, canonical)
        case AskForMore(count=count):
            event_record(job=job, kind="job.replicas_added", payload={"count": count}, public=False)
            replicas_queue(job=job, count=count)
            job_state_derive(job=job)
            _verification_rest(reported)
        case Wait(checks_missing=checks_missing):
            job_state_derive(job=job)
            if not checks_missing:
                _verification_rest(reported)
        case Dispute():
            _state_verifying(job)
            deadline_at = timezone.now() + timedelta(seconds=settings.NEXA_DISPUTE_SECONDS)
            job_transition(job=job, to=JobState.DISPUTED, dispute_deadline_at=deadline_at)
            _verification_rest(reported)
        case NoValidResult():
            for replica in reported:
                replica_transition(replica=replica, to=ReplicaState.REJECTED, payload={"verdict": replica.verdict})
            message = "No host's result passed its own checks; the evidence of each replica says which check failed."
            job_close(job=job, to=JobState.FAILED, code="results_invalid", message=message)


def _verification_rest(reported: Sequence[Replica]) -> None:
    """Keeps the dispatcher from claiming them before another receipt comes, which claims all of the job. Missing checks can't rest."""
    Replica.objects.filter(pk__in=[replica.pk for replica in reported]).update(verify_claimed_until=NEVER)


def _decide(job: Job, reported: Sequence[Replica]) -> Decision:
    evidence = list(Evidence.objects.filter(replica__in=reported))
    own: dict[UUID, dict[str, bool | None]] = {replica.pk: {} for replica in reported}
    unchecked = {row.replica_id for row in evidence if row.other_id is None and row.code == CHECK_IMPOSSIBLE}
    agreements: dict[frozenset[UUID], bool | None] = {}
    for row in evidence:
        if row.other_id is None:
            own[row.replica_id][row.check_name] = row.passed
        elif row.passed is not None:
            agreements[pair(row.replica_id, row.other_id)] = None if row.code == CHECK_IMPOSSIBLE else row.passed
    states = list(job.replicas.values_list("state", flat=True))
    outstanding = sum(state == ReplicaState.QUEUED or ReplicaState(state) in REPLICA_LIVE for state in states)
    votes = sum(ReplicaState(state) in REPLICA_VOTES for state in states)
    return decide(
        replicas=[
            CheckedReplica(replica.pk, None, unchecked=True)
            if replica.pk in unchecked
            else CheckedReplica(replica.pk, _valid(own[replica.pk]))
            for replica in reported
        ],
        agreements=agreements,
        quorum=job.quorum,
        outstanding=outstanding,
        may_ask=max(0, job.replicas_max - votes - outstanding),
    )


def _valid(checks: Mapping[str, bool | None]) -> bool | None:
    """False as soon as one check failed, True when all were made and passed."""
    outcomes = [checks.get(name) for name in OWN_CHECKS]
    if False in outcomes:
        return False
    return None if None in outcomes else True


def _conclude(job: Job, reported: Sequence[Replica], canonical_id: UUID, *, is_ruled: bool = False) -> None:
    accepted = [replica for replica in reported if replica.verdict == Verdict.AGREE]
    ratio = _calibration_ratio(job)
    # Late receipts vote too, so more replicas may agree than the job had reserved for: then they share the reservation alike.
    share_micro = job.reserved_micro // len(accepted)
    worth_micro = payment_micro(estimated_flops=job.estimated_flops, calibration_ratio=ratio, rate_micro=job.credit_rate_micro)
    amount = min(worth_micro, share_micro)
    now = timezone.now()
    for replica in reported:
        is_accepted = replica.verdict == Verdict.AGREE
        replica_transition(
            replica=replica,
            to=ReplicaState.ACCEPTED if is_accepted else ReplicaState.REJECTED,
            payload={"verdict": replica.verdict, "paid_micro": str(amount if is_accepted else 0)},
            paid_micro=amount if is_accepted else 0,
            concluded_at=now,
        )
    payment_post(
        job_id=job.pk,
        payments=[_payment(replica, amount) for replica in accepted if amount > 0],
        formula={
            "version": "1",
            "estimated_flops": repr(job.estimated_flops),
            "calibration_ratio": repr(ratio),
            "rate_micro": str(job.credit_rate_micro),
            "share_micro": str(share_micro),
        },
    )
    replicas_cancel(job, "The job was concluded.")
    refund_post(account=account_of(user=job.owner), job_id=job.pk, amount_micro=job.reserved_micro - amount * len(accepted))
    _calibrate(job, accepted)
    canonical = next(replica for replica in reported if replica.pk == canonical_id)
    summary = _verdict_summary(job, canonical, accepted, reported)
    if is_ruled:
        summary["ruled"] = True
    job_transition(job=job, to=JobState.COMPLETED, payload=summary, canonical_replica=canonical, verdict_summary=summary)


def _payment(replica: Replica, amount_micro: int) -> Payment:
    if replica.node_key_id is None or replica.node_owner is None:
        raise ValueError(f"replica {replica.pk} was accepted and has no node")
    return Payment(
        account=account_of(user=replica.node_owner),
        replica_id=replica.pk,
        node_key_id=replica.node_key_id,
        receipt_digest=replica.receipt.digest,
        amount_micro=amount_micro,
    )


def _verdict_summary(job: Job, canonical: Replica, accepted: Sequence[Replica], reported: Sequence[Replica]) -> dict[str, object]:
    """{agreeing, reported, quorum, worst}: `worst` is the largest deviation between the canonical result and another accepted one."""
    compared = Evidence.objects.filter(check_name="comparison", replica__in=accepted, other__in=accepted).filter(
        Q(replica=canonical) | Q(other=canonical)
    )
    found = [row.detail["worst"] for row in compared if row.detail.get("worst")]
    worst = max(found, key=lambda one: one["difference"] / one["allowed"] if one["difference"] and one["allowed"] else 0.0, default=None)
    return {"agreeing": len(accepted), "reported": len(reported), "quorum": job.quorum, "worst": worst}


def _state_verifying(job: Job) -> None:
    """A quorum may be met while a spare replica is still out: the job passes through verifying all the same."""
    if job.state != JobState.VERIFYING:
        job_transition(job=job, to=JobState.VERIFYING)


def _calibration_ratio(job: Job) -> float:
    row = Calibration.objects.filter(image_key=_image_key(job), job_type=job.job_type).first()
    return math.exp(row.log_ratio_sum / row.count) if row and row.count else 1.0


def _calibrate(job: Job, accepted: Sequence[Replica]) -> None:
    """Feeds what tenured nodes measured for a replicated result: device seconds times benchmark, over the estimate."""
    if len(accepted) < 2:
        return
    ratios = []
    for replica in accepted:
        before = Replica.objects.filter(node=replica.node, state=ReplicaState.ACCEPTED).exclude(job=job).count()
        predicate = ReceiptPredicate.model_validate(replica.receipt.predicate)
        measured_flops = predicate.usage.cpu_seconds * predicate.benchmark_gflops * 1e9
        if before >= settings.NEXA_TENURE_RECEIPTS and measured_flops > 0:
            # Clipped one by one: a single absurd claim must not move the mean further than pay can follow.
            ratios.append(min(max(measured_flops / job.estimated_flops, 1 / CLIP_FACTOR), CLIP_FACTOR))
    if ratios:
        row, _ = Calibration.objects.select_for_update().get_or_create(image_key=_image_key(job), job_type=job.job_type)
        row.log_ratio_sum += sum(math.log(ratio) for ratio in ratios)
        row.count += len(ratios)
        row.save(update_fields=["log_ratio_sum", "count"])


def _image_key(job: Job) -> str:
    return str(job.image.get("pull") or job.image.get("image_id"))


def ruling_conclude(*, job: Job, reported: Sequence[Replica], canonical_id: UUID) -> None:
    """Concludes a disputed job as a moderator ruled: those of `reported` whose verdict is `agree` are accepted and paid, others are not.

    The caller holds the job's row lock and has set the verdicts; `reported` has receipts and node owners fetched along.
    """
    _conclude(job, reported, canonical_id, is_ruled=True)
