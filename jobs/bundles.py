"""A completed job's result with all that proves it, as one ZIP. client/verification.py checks it offline, trusting the coordinator's key.

    bundle.json            what is inside: the job, the replicas, the coordinator's key, the checkpoint, proofs of payment
    replica-<n>/order.json     the order, as the coordinator signed it          (DSSE)
    replica-<n>/receipt.json   the receipt, as the node signed it               (DSSE)
    replica-<n>/log.jsonl      the compute log, whose head is in the receipt
    replica-<n>/archive.tar    the outputs; of the canonical replica only

Accepted replicas only, the canonical one first. Members are stored, not compressed, with fixed dates.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

from django.conf import settings
from django.http import FileResponse

from jobs.blobs import blob_open
from jobs.models import Job, Replica
from jobs.states import JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest, log_origin
from ledger.coordinator_key import coordinator_public_key
from ledger.models import Checkpoint, LogLeaf
from ledger.selectors import inclusion_proof_of
from workers.protocol.keys import PublicKey
from workers.protocol.problems import ProblemError
from workers.protocol.strict_base64 import base64_encode

BUNDLE_VERSION = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)
_COPY_BYTES = 1024 * 1024


class ResultUnavailableError(ProblemError):
    """The job has no accepted result, or none yet."""

    code = "result_unavailable"
    status = 409
    title = "This job has no result"


def bundle_response(*, job: Job) -> FileResponse:
    """The bundle as a download. Raises ResultUnavailableError."""
    file = tempfile.TemporaryFile(prefix="nexapod-bundle-")  # noqa: SIM115 -- the response closes it
    try:
        bundle_write(job=job, out=file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return FileResponse(file, as_attachment=True, filename=f"{job.label}.nexa.zip", content_type="application/zip")


def bundle_write(*, job: Job, out: BinaryIO) -> None:
    """Writes the bundle of a completed job. Raises ResultUnavailableError."""
    if job.state != JobState.COMPLETED:
        raise ResultUnavailableError(f"The job is {job.state}; a result can be had once it is completed. {job.failure_message}".rstrip())
    accepted = job.replicas.filter(state=ReplicaState.ACCEPTED).select_related("receipt", "node").order_by("receipt__received_at", "pk")
    replicas = sorted(accepted, key=lambda replica: replica.pk != job.canonical_replica_id)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as bundle:
        _member_write(bundle, "bundle.json", json.dumps(_index(job, replicas), indent=2, sort_keys=True).encode())
        for number, replica in enumerate(replicas, start=1):
            _member_write(bundle, f"replica-{number}/order.json", bytes(replica.order_envelope))
            _member_write(bundle, f"replica-{number}/receipt.json", bytes(replica.receipt.envelope))
            _blob_copy(bundle, f"replica-{number}/log.jsonl", replica.receipt.log_id)
            if replica.pk == job.canonical_replica_id:
                _blob_copy(bundle, f"replica-{number}/archive.tar", replica.receipt.archive_id)


def _index(job: Job, replicas: Sequence[Replica]) -> dict[str, Any]:
    checkpoint = checkpoint_latest()
    return {
        "bundle_version": BUNDLE_VERSION,
        "job": {
            "id": str(job.pk),
            "label": job.label,
            "type": job.job_type,
            "descriptor": job.descriptor,
            "image": job.image,
            "quorum": job.quorum,
            "verdict": job.verdict_summary,
            "concluded_at": job.concluded_at.isoformat() if job.concluded_at else None,
        },
        "origin": settings.NEXA_ORIGIN,
        "coordinator_public_key": coordinator_public_key().to_base64(),
        "replicas": [
            {
                "folder": f"replica-{number}",
                "node_public_key": PublicKey(bytes(replica.node.public_key)).to_base64(),
                "node_name": replica.node.name,
                "canonical": replica.pk == job.canonical_replica_id,
                "payment": _payment_proof(replica, checkpoint),
            }
            for number, replica in enumerate(replicas, start=1)
        ],
        "ledger": {"origin": log_origin(), "checkpoint": checkpoint.note} if checkpoint else None,
    }


def _payment_proof(replica: Replica, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """The ledger entry that paid this replica, and its proof under `checkpoint`; None while it is not integrated (a second or so)."""
    leaf = LogLeaf.objects.filter(entry__idempotency_key=f"payment:{replica.pk}").first()
    if leaf is None or checkpoint is None or leaf.index >= checkpoint.size:
        return None
    return {
        "index": leaf.index,
        "leaf": base64_encode(bytes(leaf.data)),
        "proof": [base64_encode(one) for one in inclusion_proof_of(index=leaf.index, size=checkpoint.size)],
    }


def _blob_copy(bundle: zipfile.ZipFile, name: str, digest: str) -> None:
    with blob_open(digest) as source, bundle.open(zipfile.ZipInfo(name, _EPOCH), "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def _member_write(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    bundle.writestr(zipfile.ZipInfo(name, _EPOCH), data)
