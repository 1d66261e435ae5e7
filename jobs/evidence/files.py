"""Evidence of one replica as files: the order that it got, the receipt that it signed, its compute log, and the proof that the log has it.

Only of a concluded job, of a result only if it was judged, and its log only where it was paid for, or another was (disclosure.py, rules 7
and 8). What a host sent is given byte for byte.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Final
from uuid import UUID

from jobs import selectors
from jobs.blobs import blob_open
from jobs.evidence import disclosure
from jobs.models import Job, Receipt, Replica
from jobs.states import JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest, log_origin
from ledger.models import LogLeaf
from ledger.selectors import inclusion_proof_of
from workers.protocol.merkle import leaf_hash
from workers.protocol.strict_base64 import base64_encode


class EvidenceName(StrEnum):
    """The files, as their addresses name them."""

    ORDER = "order.json"
    RECEIPT = "receipt.json"
    LOG = "log.jsonl"
    PROOF = "proof.json"


CONTENT_TYPES: Final = {
    EvidenceName.ORDER: "application/json",
    EvidenceName.RECEIPT: "application/json",
    EvidenceName.LOG: "application/x-ndjson",
    EvidenceName.PROOF: "application/json",
}


@dataclass(frozen=True)
class EvidenceFile:
    """Bytes to send, and how many they are."""

    name: EvidenceName
    file: BinaryIO
    size_bytes: int


def evidence_names(replica: Replica, *, job: Job) -> list[EvidenceName]:
    """The files that may be had of a replica, receipts fetched along: none before its job is concluded."""
    if not selectors.is_concluded(job):
        return []
    names = [EvidenceName.ORDER] if replica.order_envelope else []
    job_state, state = JobState(job.state), ReplicaState(replica.state)
    if disclosure.is_result_shown(job_state=job_state, state=state) and hasattr(replica, "receipt"):
        names.append(EvidenceName.RECEIPT)
        if replica.receipt.log_id and disclosure.is_bytes_shown(job_state=job_state, state=state):
            names.append(EvidenceName.LOG)
        if replica.state in (ReplicaState.ACCEPTED, ReplicaState.REJECTED):
            names.append(EvidenceName.PROOF)
    return names


def evidence_file(*, job: Job, replica_id: UUID, name: EvidenceName) -> EvidenceFile | None:
    """The file; None where there is none, or none to be had yet. Whoever takes it closes it. Raises FileNotFoundError."""
    replica = Replica.objects.filter(job=job, pk=replica_id).select_related("receipt__log").first()
    if replica is None or name not in evidence_names(replica, job=job):
        return None
    match name:
        case EvidenceName.ORDER:
            data = bytes(replica.order_envelope or b"")
        case EvidenceName.RECEIPT:
            data = bytes(replica.receipt.envelope)
        case EvidenceName.PROOF:
            data = log_proof([replica])
        case EvidenceName.LOG:
            return _log_file(replica.receipt)
    return EvidenceFile(name, io.BytesIO(data), len(data))


def log_proof(replicas: Sequence[Replica]) -> bytes:
    """The leaves about these replicas (receipt and payment) with their RFC 9162 proofs under the newest signed checkpoint, as JSON.

    A leaf that the checkpoint doesn't cover yet, for a second or so, is left out.
    """
    checkpoint = checkpoint_latest()
    keys = [f"{kind}:{replica.pk}" for replica in replicas for kind in ("receipt", "payment")]
    leaves = LogLeaf.objects.filter(item__key__in=keys).select_related("item").order_by("index") if checkpoint else []
    document = {
        "origin": log_origin(checkpoint.epoch) if checkpoint else None,
        "checkpoint": checkpoint.note if checkpoint else None,
        "leaves": [
            {
                "index": leaf.index,
                "kind": leaf.item.kind,
                "leaf": base64_encode(bytes(leaf.item.data)),
                "leaf_hash": base64_encode(leaf_hash(bytes(leaf.item.data))),
                "proof": [base64_encode(node) for node in inclusion_proof_of(index=leaf.index, size=checkpoint.size)],
            }
            for leaf in leaves
            if checkpoint and leaf.index < checkpoint.size
        ],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _log_file(receipt: Receipt) -> EvidenceFile | None:
    log = receipt.log
    return None if log is None else EvidenceFile(EvidenceName.LOG, blob_open(log), log.size_bytes)
