"""Makes the bundle of a completed job (workers/protocol/bundles.py says what is in one): accepted replicas, the canonical one first."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO, Final, Self, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse

from jobs.blobs import blob_open
from jobs.models import Blob, Job, Replica
from jobs.selectors import state_shown
from jobs.states import JobState, ReplicaState
from ledger.checkpoints import checkpoint_latest, log_origin
from ledger.coordinator_key import coordinator_private_key, coordinator_public_key
from ledger.models import Checkpoint, LogLeaf
from ledger.selectors import inclusion_proof_of
from ledger.succession import predecessors_of
from nodes.models import Node, NodeKey
from workers.protocol.bundles import (
    INDEX_NAME,
    MEMBER_DATE,
    SEAL_NAME,
    BundledJob,
    BundledLedger,
    BundledReplica,
    BundleIndex,
    PaymentProof,
    seal_sign,
)
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import DIGEST_PREFIX, digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.messages.order import ImageReference
from workers.protocol.problems import ProblemError
from workers.protocol.strict_base64 import base64_encode

_COPY_BYTES: Final = 1024 * 1024


class ResultUnavailableError(ProblemError):
    """The job has no accepted result, or none yet."""

    code = "result_unavailable"
    status = 409
    title = "This job has no result"


def bundle_response(*, job: Job) -> StreamingHttpResponse:
    """The bundle as a download, sent from a temporary file piece by piece. Raises ResultUnavailableError."""
    file = tempfile.TemporaryFile(prefix="nexapod-bundle-")  # noqa: SIM115 -- the response closes it
    try:
        bundle_write(job=job, out=file)
        size_bytes = file.seek(0, 2)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {
        "Content-Type": "application/zip",
        "Content-Length": str(size_bytes),
        "Content-Disposition": f'attachment; filename="{job.label}.nexa.zip"',  # labels hold no quotes
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(FileChunks(file), headers=headers)


class FileChunks:
    """A file's bytes, asynchronously: under ASGI, Django reads a synchronous iterator to its end first. The response closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await sync_to_async(self._file.read)(_COPY_BYTES):
            yield chunk

    def close(self) -> None:
        self._file.close()


def bundle_write(*, job: Job, out: BinaryIO) -> None:
    """Writes the bundle of a completed job. Raises ResultUnavailableError."""
    if job.state != JobState.COMPLETED:
        shown = state_shown(job)
        raise ResultUnavailableError(f"The job is {shown}; a result can be had once it is completed. {job.failure_message}".rstrip())
    accepted = (
        job.replicas.filter(state=ReplicaState.ACCEPTED)
        .select_related("receipt__log", "receipt__archive", "node", "node_key")
        .order_by("receipt__received_at", "pk")
    )
    replicas = sorted(accepted, key=lambda replica: replica.pk != job.canonical_replica_id)
    index = index_build(job, replicas)
    with _BundleWriter(out) as bundle:
        bundle.member_write(INDEX_NAME, canonical_json(index.model_dump(mode="json")))
        for entry, replica in zip(index.replicas, replicas, strict=True):
            bundle.member_write(f"{entry.folder}/order.json", bytes(cast("bytes", replica.order_envelope)))
            bundle.member_write(f"{entry.folder}/receipt.json", bytes(replica.receipt.envelope))
            bundle.blob_copy(f"{entry.folder}/log.jsonl", cast("Blob", replica.receipt.log))
            if entry.canonical:
                bundle.blob_copy(f"{entry.folder}/archive.tar", cast("Blob", replica.receipt.archive))
        bundle.seal(job.pk)


def index_build(job: Job, replicas: Sequence[Replica]) -> BundleIndex:
    """The index of a bundle of these accepted replicas, with proofs under the newest checkpoint."""
    checkpoint = checkpoint_latest()
    # An accepted replica was run by a node, as it had an order: `cast` below says so.
    return BundleIndex(
        bundle_version=1,
        job=BundledJob(
            id=job.pk,
            label=job.label,
            type=job.job_type,
            descriptor=job.descriptor,
            image=ImageReference.model_validate(job.image),
            quorum=job.quorum,
            verdict=job.verdict_summary,
            concluded_at=job.concluded_at,
        ),
        origin=settings.NEXA_ORIGIN,
        coordinator_public_key=coordinator_public_key().to_base64(),
        coordinator_predecessors=predecessors_of(coordinator_public_key()),
        replicas=tuple(
            BundledReplica(
                folder=f"replica-{number}",
                node_public_key=PublicKey(bytes(cast("NodeKey", replica.node_key).public_key)).to_base64(),
                node_name=cast("Node", replica.node).name,
                canonical=replica.pk == job.canonical_replica_id,
                payment=_payment_proof(replica, checkpoint),
            )
            for number, replica in enumerate(replicas, start=1)
        ),
        ledger=BundledLedger(origin=log_origin(checkpoint.epoch), checkpoint=checkpoint.note) if checkpoint else None,
    )


class _BundleWriter:
    """The ZIP that is being written, and the digest of each member for the seal."""

    def __init__(self, out: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_STORED)
        self._digests: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def member_write(self, name: str, data: bytes) -> None:
        self._zip.writestr(zipfile.ZipInfo(name, MEMBER_DATE), data)
        self._digests[name] = digest_of(data)

    def blob_copy(self, name: str, blob: Blob) -> None:
        """Copies a stored blob. What is sealed is what was read: a store that went bad shows at the reader, against the receipt."""
        sha256 = hashlib.sha256()
        with blob_open(blob) as source, self._zip.open(zipfile.ZipInfo(name, MEMBER_DATE), "w", force_zip64=True) as target:
            while chunk := source.read(_COPY_BYTES):
                sha256.update(chunk)
                target.write(chunk)
        self._digests[name] = DIGEST_PREFIX + sha256.hexdigest()

    def seal(self, job_id: UUID) -> None:
        """The last member."""
        envelope = seal_sign(digests=self._digests, job_id=job_id, key=coordinator_private_key())
        self._zip.writestr(zipfile.ZipInfo(SEAL_NAME, MEMBER_DATE), envelope)


def _payment_proof(replica: Replica, checkpoint: Checkpoint | None) -> PaymentProof | None:
    """The ledger entry that paid this replica, and its proof under `checkpoint`; None while it is not integrated (a second or so)."""
    leaf = LogLeaf.objects.filter(item__key=f"payment:{replica.pk}").select_related("item").first()
    if leaf is None or checkpoint is None or leaf.index >= checkpoint.size:
        return None
    proof = tuple(base64_encode(one) for one in inclusion_proof_of(index=leaf.index, size=checkpoint.size))
    return PaymentProof(index=leaf.index, leaf=base64_encode(bytes(leaf.item.data)), proof=proof)
