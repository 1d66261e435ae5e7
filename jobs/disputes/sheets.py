"""All that a moderator needs to rule on a dispute, read in one go: what each replica delivered, and how each pair compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.checking.codes import evidence_fault
from jobs.evidence.deviations import PairCompared, letter_of, pair_compared, pairs_sorted
from jobs.faults import FaultClass
from jobs.models import Evidence, Job, Receipt, Replica, Ruling
from jobs.services.disputes import may_be_upheld
from jobs.states import JobState, ReplicaState
from ledger.services import accounts_of


@dataclass(frozen=True)
class SheetCheck:
    """One of a replica's own checks."""

    name: str
    passed: bool | None
    code: str
    fault: FaultClass | None
    message: str


@dataclass(frozen=True)
class SheetReplica:
    """One result. `owner` is the opaque account that its work would be paid to: the same for two nodes of one person, and no name."""

    id: UUID
    letter: str
    node: str
    node_key_id: str
    owner: str
    tier: str
    verdict: str
    may_be_upheld: bool
    received_at: datetime
    wall_seconds: float
    engine: str
    result_digest: str
    archive: str | None
    log: str | None
    checks: list[SheetCheck]


@dataclass(frozen=True)
class DisputeSheet:
    """`verification` is what the descriptor says about it; `tolerance` its fallback."""

    job: Job
    verification: Mapping[str, Any]
    tolerance: float | None
    replicas: list[SheetReplica]
    pairs: list[PairCompared]
    ruling: Ruling | None


def dispute_sheet(*, job: Job) -> DisputeSheet:
    """The sheet of a job that is, or was, disputed: five statements and one an owner."""
    states = [ReplicaState.REPORTED] if job.state == JobState.DISPUTED else [ReplicaState.ACCEPTED, ReplicaState.REJECTED]
    found = job.replicas.filter(state__in=states).select_related("receipt", "node", "node_owner").order_by("receipt__received_at", "pk")
    replicas = list(found)
    evidence = list(Evidence.objects.filter(replica__in=replicas).order_by("pk"))
    letters = {replica.pk: letter_of(number) for number, replica in enumerate(replicas)}
    accounts = accounts_of({replica.node_owner_id for replica in replicas if replica.node_owner_id is not None})
    return DisputeSheet(
        job=job,
        verification=job.descriptor.get("verification", {}),
        tolerance=job.descriptor.get("tolerance"),
        replicas=[
            _replica_of(replica, letters[replica.pk], str(accounts[replica.node_owner_id].pk) if replica.node_owner_id else "", evidence)
            for replica in replicas
        ],
        pairs=pairs_sorted(
            pair_compared(letters[row.replica_id], letters[row.other_id], row)
            for row in evidence
            if row.other_id is not None and row.other_id in letters
        ),
        ruling=Ruling.objects.filter(job=job).select_related("by").first(),
    )


def blob_of(*, job: Job, replica_id: UUID, name: str) -> str | None:
    """The digest of the `archive` or the `log` of a receipt of this job; None: there is none."""
    receipt = Receipt.objects.filter(replica=replica_id, replica__job=job).first()
    if receipt is None:
        return None
    return receipt.archive_id if name == "archive" else receipt.log_id


def _replica_of(replica: Replica, letter: str, owner: str, evidence: list[Evidence]) -> SheetReplica:
    receipt: Receipt = replica.receipt
    return SheetReplica(
        id=replica.pk,
        letter=letter,
        node=replica.node.name if replica.node else "",
        node_key_id=replica.node_key_id or "",
        owner=owner,
        tier=replica.tier,
        verdict=replica.verdict,
        may_be_upheld=may_be_upheld(replica),
        received_at=receipt.received_at,
        wall_seconds=float(receipt.predicate["usage"]["wall_seconds"]),
        engine=str(receipt.predicate.get("engine", "")),
        result_digest=receipt.result_digest,
        archive=receipt.archive_id,
        log=receipt.log_id,
        checks=[
            SheetCheck(row.check_name, row.passed, row.code, evidence_fault(row.code), str(row.detail.get("message", "")))
            for row in evidence
            if row.replica_id == replica.pk and row.other_id is None
        ],
    )
