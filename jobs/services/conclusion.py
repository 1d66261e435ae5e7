"""The conclusion of jobs that have receipts: who is paid, what is logged, what is cancelled. Many jobs at once, by few statements.

1. Every replica that agrees with the canonical one is paid alike, what the job is worth for its image and type (workers/protocol/pay.py).
2. Whatever was reserved and isn't paid goes back.
3. What each node's owner did is added to their workday, with the payment (nodes/wall/): the wall is what was paid.
4. Each receipt that was judged goes into the public log, accepted or not, in the transaction that pays it. One whose signature doesn't hold
   is nobody's receipt, and isn't logged. Where the portal could not make that check, it is made here: a ruling may uphold such a result.

Callers hold the locks of the jobs, and are inside a transaction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from jobs.checking.codes import CHECK_IMPOSSIBLE
from jobs.models import Calibration, Evidence, Job, Replica
from jobs.services.transitions import JobStep, ReplicaStep, Step, steps_take
from jobs.states import REPLICA_LIVE, JobState, ReplicaState
from jobs.verdicts import Verdict
from ledger.items import ConcludedReceipt, receipts_log
from ledger.models import Account
from ledger.movements import Movement, movements_post
from ledger.services import Payment, accounts_of, payment_of, refund_of
from nodes.models import NodeKey
from nodes.wall.recording import JudgedWork, work_record
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.leaves import SpotChoice
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import ReceiptPredicate
from workers.protocol.pay import CLIP_FACTOR, MICRO, payment_micro

ImageAndType = tuple[str, str]


class Conclusions:
    """What a transaction concludes. Add jobs, then `write` once."""

    def __init__(self) -> None:
        self._now = timezone.now()
        self._results: list[_Result] = []
        self._failures: list[_Failure] = []

    def result_add(
        self,
        job: Job,
        reported: Sequence[Replica],
        *,
        others: Sequence[Replica],
        canonical_id: UUID,
        comparisons: Sequence[Evidence],
        is_ruled: bool = False,
    ) -> None:
        """A job with a result: the reported replicas have their verdicts, those that agree are paid. `others`: its replicas besides."""
        self._results.append(_Result(job, reported, others, canonical_id, comparisons, is_ruled=is_ruled))

    def failure_add(
        self, job: Job, reported: Sequence[Replica], *, others: Sequence[Replica], code: str, message: str, is_ruled: bool = False
    ) -> None:
        """A job without a result, whose reported replicas were judged all the same. Those among `others` were not, and are cancelled."""
        self._failures.append(_Failure(job, reported, others, code, message, is_ruled=is_ruled))

    def write(self) -> None:
        """Writes everything that was added."""
        if not (self._results or self._failures):
            return
        self._live_lock()
        calibrations = _Calibrations([result.job for result in self._results])
        owners = {result.job.owner_id for result in self._results} | {failure.job.owner_id for failure in self._failures}
        accounts = accounts_of(owners | _paid_owners(self._results))
        movements: list[Movement] = []
        refunds: list[Movement | None] = []
        steps: list[Step] = []
        judged: list[tuple[Job, Replica, bool, bool]] = []
        works: list[JudgedWork] = []
        for result in self._results:
            ratio = calibrations.ratio_of(result.job)
            amount, formula = result.pay(ratio)
            if amount > 0:
                movements += [_payment(replica, accounts[_owner_of(replica)], amount, formula) for replica in result.accepted]
            left_micro = result.job.reserved_micro - amount * len(result.accepted)
            refunds.append(refund_of(account=accounts[result.job.owner_id], job_id=result.job.pk, amount_micro=left_micro))
            steps += result.steps(amount, self._now)
            judged += [(result.job, replica, replica.verdict == Verdict.AGREE, result.is_ruled) for replica in result.reported]
            works += result.works(amount, ratio)
            calibrations.measure(result.job, result.accepted)
        for failure in self._failures:
            left_micro = failure.job.reserved_micro
            refunds.append(refund_of(account=accounts[failure.job.owner_id], job_id=failure.job.pk, amount_micro=left_micro))
            steps += failure.steps(self._now)
            judged += [(failure.job, replica, False, failure.is_ruled) for replica in failure.reported]
            works += [JudgedWork(_owner_of(replica), failure.job.job_type, is_accepted=False) for replica in failure.reported]
        receipts_log(_concluded_receipts(judged))
        movements_post([*movements, *(refund for refund in refunds if refund)])
        steps_take(steps)
        work_record(works, at=self._now)
        calibrations.write()

    def _live_lock(self) -> None:
        """Leases that are out and will be cancelled, in the order in which a host's renewals lock them: else the two could deadlock."""
        others = [replica for result in self._results for replica in result.others]
        others += [replica for failure in self._failures for replica in failure.others]
        live = [replica.pk for replica in others if ReplicaState(replica.state) in REPLICA_LIVE]
        if len(live) > 1:
            list(Replica.objects.select_for_update(no_key=True).filter(pk__in=live).order_by("pk").values_list("pk"))


def ruling_conclude(*, job: Job, reported: Sequence[Replica], canonical_id: UUID) -> None:
    """Concludes a job by a ruling: those of `reported` whose verdict is `agree` are accepted and paid, others are not.

    The caller holds the job's row lock and has set the verdicts; `reported` has receipts fetched along.
    """
    conclusions = Conclusions()
    comparisons = list(Evidence.objects.filter(check_name="comparison", replica__in=reported, other__in=reported))
    conclusions.result_add(job, reported, others=_others_of(job), canonical_id=canonical_id, comparisons=comparisons, is_ruled=True)
    conclusions.write()


def ruling_fail(*, job: Job, reported: Sequence[Replica], code: str, message: str, is_ruled: bool) -> None:
    """Fails a disputed job of which no result is upheld; `is_ruled` unless nobody ruled in time. As ruling_conclude."""
    conclusions = Conclusions()
    conclusions.failure_add(job, reported, others=_others_of(job), code=code, message=message, is_ruled=is_ruled)
    conclusions.write()


def replicas_signed(replicas: Sequence[Replica]) -> set[UUID]:
    """Those whose receipts the keys of their nodes signed: by the evidence, or found now where the portal could not make that check."""
    checks = Evidence.objects.filter(replica__in=replicas, other=None, check_name="signature")
    signed: set[UUID] = set()
    unmade: set[UUID] = set()
    for replica_id, passed, code in checks.values_list("replica_id", "passed", "code"):
        if passed:
            signed.add(replica_id)
        elif code == CHECK_IMPOSSIBLE:
            unmade.add(replica_id)
    return signed | {replica.pk for replica in replicas if replica.pk in unmade and _is_signed(replica)}


def _is_signed(replica: Replica) -> bool:
    key = NodeKey.objects.values_list("public_key", flat=True).get(pk=replica.node_key_id)
    try:
        envelope_open(bytes(replica.receipt.envelope), payload_type=PAYLOAD_TYPE_STATEMENT, key=PublicKey(bytes(key)))
    except VerificationError:
        return False
    return True


def _others_of(job: Job) -> list[Replica]:
    others = list(job.replicas.exclude(state=ReplicaState.REPORTED).order_by("created_at", "pk"))
    for replica in others:
        replica.job = job
    return others


class _Result:
    def __init__(
        self,
        job: Job,
        reported: Sequence[Replica],
        others: Sequence[Replica],
        canonical_id: UUID,
        comparisons: Sequence[Evidence],
        *,
        is_ruled: bool,
    ) -> None:
        self.job = job
        self.reported = reported
        self.others = others
        self._comparisons = comparisons
        self.is_ruled = is_ruled
        self.accepted = [replica for replica in reported if replica.verdict == Verdict.AGREE]
        self._canonical = next(replica for replica in reported if replica.pk == canonical_id)

    def pay(self, ratio: float) -> tuple[int, dict[str, str]]:
        """What each accepted replica earns, and how that was reckoned."""
        job = self.job
        # Late receipts vote too, so more replicas may agree than the job had reserved for: then they share the reservation alike.
        share_micro = job.reserved_micro // len(self.accepted)
        worth_micro = payment_micro(estimated_flops=job.estimated_flops, calibration_ratio=ratio, rate_micro=job.credit_rate_micro)
        formula = {
            "version": "1",
            "estimated_flops": repr(job.estimated_flops),
            "calibration_ratio": repr(ratio),
            "rate_micro": str(job.credit_rate_micro),
            "share_micro": str(share_micro),
        }
        return min(worth_micro, share_micro), formula

    def steps(self, amount_micro: int, now: datetime) -> list[Step]:
        job, summary = self.job, self._summary()
        fields = {"canonical_replica": self._canonical, "verdict_summary": summary}
        return [
            *_verifying(job),
            *(_judged(replica, amount_micro if replica.verdict == Verdict.AGREE else None, now) for replica in self.reported),
            *_cancelled(self.others, "The job was concluded.", now),
            JobStep(job, JobState.COMPLETED, payload=summary, fields=fields),
        ]

    def works(self, amount_micro: int, ratio: float) -> list[JudgedWork]:
        """What the wall shows of it: the accepted replicas' work is what they are paid for, whatever the job's rate."""
        job = self.job
        work_micro = payment_micro(estimated_flops=job.estimated_flops, calibration_ratio=ratio, rate_micro=MICRO)
        return [
            JudgedWork(_owner_of(replica), job.job_type, is_accepted=True, work_micro=work_micro, paid_micro=amount_micro)
            if replica.verdict == Verdict.AGREE
            else JudgedWork(_owner_of(replica), job.job_type, is_accepted=False)
            for replica in self.reported
        ]

    def _summary(self) -> dict[str, object]:
        """{agreeing, reported, quorum, worst}, and `ruled` where a moderator decided.

        `worst` is the largest deviation between the canonical result and another accepted one.
        """
        accepted = {replica.pk for replica in self.accepted}
        found = [
            row.detail["worst"]
            for row in self._comparisons
            if {row.replica_id, row.other_id} <= accepted
            and self._canonical.pk in (row.replica_id, row.other_id)
            and row.detail.get("worst")
        ]
        worst = max(found, key=_share, default=None)
        summary = {"agreeing": len(self.accepted), "reported": len(self.reported), "quorum": self.job.quorum, "worst": worst}
        return summary | {"ruled": True} if self.is_ruled else summary


class _Failure:
    def __init__(
        self, job: Job, reported: Sequence[Replica], others: Sequence[Replica], code: str, message: str, *, is_ruled: bool
    ) -> None:
        self.job = job
        self.reported = reported
        self.is_ruled = is_ruled
        self.others = others
        self._code = code
        self._message = message

    def steps(self, now: datetime) -> list[Step]:
        fields = {"failure_code": self._code, "failure_message": self._message}
        return [
            *_verifying(self.job),
            *(_judged(replica, None, now) for replica in self.reported),
            *_cancelled(self.others, self._message, now),
            JobStep(self.job, JobState.FAILED, payload={"code": self._code}, fields=fields),
        ]


class _Calibrations:
    """What agreeing replicas measured, by image and type: read once for all jobs of a transaction, so it counts for later ones only."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        keys = {_image_and_type(job) for job in jobs}
        rows = Calibration.objects.filter(image_key__in={image for image, _ in keys}, job_type__in={job_type for _, job_type in keys})
        self._ratios = {(row.image_key, row.job_type): math.exp(row.log_ratio_sum / row.count) for row in rows if row.count}
        self._measured: dict[ImageAndType, list[float]] = {}
        self._tenured: dict[UUID, bool] = {}

    def ratio_of(self, job: Job) -> float:
        """Measured over estimated FLOPs; 1 where nothing was measured."""
        if not _is_measured(job):
            return 1.0
        return self._ratios.get(_image_and_type(job), 1.0)

    def measure(self, job: Job, accepted: Sequence[Replica]) -> None:
        """Takes in what tenured nodes measured for a replicated result: a core's seconds times its benchmark, over the estimate."""
        if len(accepted) < 2 or not _is_measured(job):
            return
        for replica in accepted:
            predicate = ReceiptPredicate.model_validate(replica.receipt.predicate)
            measured_flops = predicate.usage.cpu_seconds * predicate.benchmark_gflops * 1e9
            if measured_flops > 0 and self._is_tenured(replica):
                # Clipped one by one: a single absurd claim must not move the mean further than pay can follow.
                ratio = min(max(measured_flops / job.estimated_flops, 1 / CLIP_FACTOR), CLIP_FACTOR)
                self._measured.setdefault(_image_and_type(job), []).append(math.log(ratio))

    def write(self) -> None:
        for image_key, job_type in sorted(self._measured):  # in one order, since several transactions may write the same rows
            logarithms = self._measured[image_key, job_type]
            row, _ = Calibration.objects.select_for_update().get_or_create(image_key=image_key, job_type=job_type)
            row.log_ratio_sum += sum(logarithms)
            row.count += len(logarithms)
            row.save(update_fields=["log_ratio_sum", "count"])

    def _is_tenured(self, replica: Replica) -> bool:
        if replica.node_id is None:
            return False
        if replica.node_id not in self._tenured:
            before = Replica.objects.filter(node=replica.node_id, state=ReplicaState.ACCEPTED).exclude(job=replica.job_id)
            needed = settings.NEXA_TENURE_RECEIPTS
            self._tenured[replica.node_id] = len(before.values_list("pk", flat=True)[:needed]) >= needed
        return self._tenured[replica.node_id]


def _is_measured(job: Job) -> bool:
    """The benchmark is of one core: it says nothing about what a job does on GPUs, whose cores wait meanwhile."""
    return job.tier == Tier.CPU


def _judged(replica: Replica, paid_micro: int | None, now: datetime) -> ReplicaStep:
    """`paid_micro` None: rejected."""
    to = ReplicaState.REJECTED if paid_micro is None else ReplicaState.ACCEPTED
    payload = {"verdict": replica.verdict, "paid_micro": str(paid_micro or 0)}
    return ReplicaStep(replica, to, payload, {"verdict": replica.verdict, "paid_micro": paid_micro or 0, "concluded_at": now})


def _cancelled(others: Sequence[Replica], reason: str, now: datetime) -> list[ReplicaStep]:
    """What is queued or out, or was reported and not judged, is needed no more; hosts are told by their next exchange."""
    ends = {ReplicaState.QUEUED, ReplicaState.REPORTED, *REPLICA_LIVE}
    fields = {"cancel_reason": reason[:200], "concluded_at": now}
    return [ReplicaStep(replica, ReplicaState.CANCELLED, fields=fields) for replica in others if ReplicaState(replica.state) in ends]


def _verifying(job: Job) -> list[JobStep]:
    """A quorum may be met while a spare replica is still out, and a dispute was verified before: the way leads through verifying."""
    return [] if job.state in (JobState.VERIFYING, JobState.DISPUTED) else [JobStep(job, JobState.VERIFYING)]


def _concluded_receipts(judged: Sequence[tuple[Job, Replica, bool, bool]]) -> list[ConcludedReceipt]:
    signed = replicas_signed([replica for _, replica, *_ in judged])
    return [
        ConcludedReceipt(
            job_id=job.pk,
            replica_id=replica.pk,
            digest=replica.receipt.digest,
            envelope=bytes(replica.receipt.envelope),
            accepted=is_accepted,
            quorum=job.quorum,
            spot=_spot_choice(job),
            is_ruled=is_ruled,
        )
        for job, replica, is_accepted, is_ruled in judged
        if replica.pk in signed
    ]


def _spot_choice(job: Job) -> SpotChoice | None:
    if job.spot_key_id is None or job.spot_share is None:
        return None
    return SpotChoice(spot_key=job.spot_key_id, share=repr(job.spot_share), chosen=bool(job.spot_chosen))


def _payment(replica: Replica, account: Account, amount_micro: int, formula: dict[str, str]) -> Movement:
    if replica.node_key_id is None:
        raise ValueError(f"replica {replica.pk} was accepted and no key took its lease")
    payment = Payment(
        account=account,
        replica_id=replica.pk,
        node_key_id=replica.node_key_id,
        receipt_digest=replica.receipt.digest,
        amount_micro=amount_micro,
    )
    return payment_of(job_id=replica.job_id, payment=payment, formula=formula)


def _paid_owners(results: Sequence[_Result]) -> set[int]:
    return {_owner_of(replica) for result in results for replica in result.accepted}


def _owner_of(replica: Replica) -> int:
    if replica.node_owner_id is None:
        raise ValueError(f"replica {replica.pk} has a receipt and no owner")
    return int(replica.node_owner_id)


def _share(worst: dict[str, float | None]) -> float:
    difference, allowed = worst["difference"], worst["allowed"]
    return difference / allowed if difference and allowed else 0.0


def _image_and_type(job: Job) -> ImageAndType:
    return str(job.image.get("pull") or job.image.get("image_id")), job.job_type
