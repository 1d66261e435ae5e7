"""Makes the bundle of a completed job (workers/protocol/bundles.py says what is in one): accepted replicas, the canonical one first."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse

from jobs.blobs import blob_open
from jobs.evidence.sending import SentChunks, file_chunks
from jobs.evidence.stored_zip import Member, zip_chunks, zip_size_bytes
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


class ResultUnavailableError(ProblemError):
    """The job has no accepted result, or none yet."""

    code = "result_unavailable"
    status = 409
    title = "This job has no result"


def bundle_response(*, job: Job) -> StreamingHttpResponse:
    """The bundle as a download, made while it is sent. Raises as bundle_of."""
    bundle = bundle_of(job=job)
    headers = {
        "Content-Type": "application/zip",
        "Content-Length": str(bundle.size_bytes),
        "Content-Disposition": f'attachment; filename="{job.label}.nexa.zip"',  # labels hold no quotes
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(SentChunks(bundle.chunks(), bundle.close), headers=headers)


def bundle_of(*, job: Job) -> Bundle:
    """The bundle of a completed job; close it. Raises ResultUnavailableError, BlobGoneError."""
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
    with contextlib.ExitStack() as opened:
        bundle = Bundle(job.pk)
        opened.callback(bundle.close)
        bundle.add(INDEX_NAME, canonical_json(index.model_dump(mode="json")))
        for entry, replica in zip(index.replicas, replicas, strict=True):
            bundle.add(f"{entry.folder}/order.json", bytes(cast("bytes", replica.order_envelope)))
            bundle.add(f"{entry.folder}/receipt.json", bytes(replica.receipt.envelope))
            bundle.blob_add(f"{entry.folder}/log.jsonl", cast("Blob", replica.receipt.log))
            if entry.canonical:
                bundle.blob_add(f"{entry.folder}/archive.tar", cast("Blob", replica.receipt.archive))
        opened.pop_all()
    return bundle


class Bundle:
    """A bundle that is not made yet. Its blobs are open from the start, so that nothing of it is removed before it is sent."""

    def __init__(self, job_id: UUID) -> None:
        self._job_id = job_id
        self._members: list[Member] = []
        self._announced: dict[str, str] = {}
        self._sent: dict[str, str] = {}
        self._files = contextlib.ExitStack()

    @property
    def size_bytes(self) -> int:
        """Of the whole ZIP."""
        return zip_size_bytes([*self._members, self._seal()])

    def add(self, name: str, data: bytes) -> None:
        """A member of these bytes."""
        self._member_add(name, len(data), digest_of(data), lambda: iter([data]))

    def blob_add(self, name: str, blob: Blob) -> None:
        """A member of a blob's bytes. Raises BlobGoneError."""
        file = self._files.enter_context(blob_open(blob))
        self._member_add(name, blob.size_bytes, blob.digest, lambda: file_chunks(file))

    def chunks(self) -> Iterator[bytes]:
        """The ZIP, once. Raises as zip_chunks."""
        yield from zip_chunks([*self._members, self._seal()])

    def close(self) -> None:
        self._files.close()

    def _member_add(self, name: str, size_bytes: int, digest: str, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._announced[name] = digest
        self._members.append(Member(name, size_bytes, lambda: self._digested(name, chunks())))

    def _digested(self, name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What is sealed is what was sent: a store that went bad shows at the reader, against the receipt."""
        sha256 = hashlib.sha256()
        for chunk in chunks:
            sha256.update(chunk)
            yield chunk
        self._sent[name] = DIGEST_PREFIX + sha256.hexdigest()

    def _seal(self) -> Member:
        """The last member. Signed over what is announced it has the same length."""
        size_bytes = len(self._signed(self._announced))
        return Member(SEAL_NAME, size_bytes, lambda: [self._signed(self._sent)])

    def _signed(self, digests: Mapping[str, str]) -> bytes:
        return seal_sign(digests=digests, job_id=self._job_id, key=coordinator_private_key())


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


def _payment_proof(replica: Replica, checkpoint: Checkpoint | None) -> PaymentProof | None:
    """The ledger entry that paid this replica, and its proof under `checkpoint`; None while it is not integrated (a second or so)."""
    leaf = LogLeaf.objects.filter(item__key=f"payment:{replica.pk}").select_related("item").first()
    if leaf is None or checkpoint is None or leaf.index >= checkpoint.size:
        return None
    proof = tuple(base64_encode(one) for one in inclusion_proof_of(index=leaf.index, size=checkpoint.size))
    return PaymentProof(index=leaf.index, leaf=base64_encode(bytes(leaf.item.data)), proof=proof)
