"""The form of a result bundle: a job's result with all that proves it, as one ZIP. jobs/evidence/bundles.py writes it, client/ verifies it.

    bundle.json                the index: the job, the replicas, the coordinator's keys, the checkpoint, proofs of payment
    replica-<n>/order.json     the order, as the coordinator signed it         (DSSE)
    replica-<n>/receipt.json   the receipt, as the node signed it              (DSSE)
    replica-<n>/log.jsonl      the compute log, whose head is in the receipt
    replica-<n>/archive.tar    the outputs; of the canonical replica only
    seal.json                  an in-toto statement that names every member before by digest, signed by the coordinator  (DSSE)

The seal makes what the coordinator alone knows (the quorum, the verdict, which replicas were accepted) as binding as an order: nobody who
passes a bundle on can drop a replica and lower the quorum. Everything that a node signed is verified against the node's key all the same.
Members are stored, not compressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from workers.protocol.canonical import json_parse
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_open, envelope_sign
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import Message
from workers.protocol.messages.joining import PREDECESSORS_MAX, PredecessorKey
from workers.protocol.messages.order import ImageReference
from workers.protocol.statements import Subject, statement_build, statement_parse

BUNDLE_VERSION: Final = 1
BUNDLE_PREDICATE_TYPE: Final = "https://nexapod.org/bundle/v1"
INDEX_NAME: Final = "bundle.json"
SEAL_NAME: Final = "seal.json"
INDEX_LIMIT_BYTES: Final = 16 * 2**20
REPLICAS_MAX: Final = 64

PartT = TypeVar("PartT", bound=BaseModel)


class BundleInvalidError(VerificationError):
    """The file is no bundle, or contradicts itself."""

    code = "bundle_invalid"


class PaymentProof(Message):
    """The entry that paid a replica: its leaf (canonical JSON) at `index`, and the RFC 9162 path to the root; both in base64."""

    index: int = Field(ge=0, le=2**53 - 1)
    leaf: str
    proof: Annotated[tuple[str, ...], Field(max_length=64)]


class BundledReplica(Message):
    """One accepted replica. `payment` is None while its entry is under no checkpoint, and where nothing was paid."""

    folder: Annotated[str, StringConstraints(pattern=r"^replica-[1-9][0-9]{0,2}$")]
    node_public_key: str
    node_name: Annotated[str, StringConstraints(max_length=64)]
    canonical: bool
    payment: PaymentProof | None

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members of this replica."""
        names = ("order.json", "receipt.json", "log.jsonl", *(("archive.tar",) if self.canonical else ()))
        return tuple(f"{self.folder}/{name}" for name in names)


class BundledJob(Message):
    """The job as the coordinator concluded it. `label` is the submitter's `job_id`."""

    id: UUID
    label: Annotated[str, StringConstraints(max_length=128)]
    type: Annotated[str, StringConstraints(max_length=64)]
    descriptor: dict[str, Any]
    image: ImageReference
    quorum: int = Field(ge=1, le=REPLICAS_MAX)
    verdict: dict[str, Any] | None
    concluded_at: AwareDatetime | None


class BundledLedger(Message):
    """The name of the ledger's log, and the signed note of the checkpoint that the proofs lead to."""

    origin: Annotated[str, StringConstraints(max_length=300)]
    checkpoint: Annotated[str, StringConstraints(max_length=64 * 1024)]


class BundleIndex(Message):
    """`bundle.json`. The canonical replica comes first. Orders and the checkpoint may be signed by keys that the coordinator had before."""

    bundle_version: Literal[1]
    job: BundledJob
    origin: Annotated[str, StringConstraints(max_length=300)]
    coordinator_public_key: str
    coordinator_predecessors: Annotated[tuple[PredecessorKey, ...], Field(max_length=PREDECESSORS_MAX)]
    replicas: Annotated[tuple[BundledReplica, ...], Field(min_length=1, max_length=REPLICAS_MAX)]
    ledger: BundledLedger | None


def index_parse(data: bytes) -> BundleIndex:
    """The index that `data` spells. Raises JsonMalformedError, JsonTooLargeError, BundleInvalidError."""
    return part_parse(BundleIndex, json_parse(data, limit_bytes=INDEX_LIMIT_BYTES))


def part_parse(model: type[PartT], value: Any) -> PartT:
    """`value` as a `model`; the error names the first fault and repeats no value. Raises BundleInvalidError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"])[:200] or "the whole"
        raise BundleInvalidError(f"Expected a {model.__name__}; at {where}: {first['msg']}.") from error


def seal_sign(*, digests: Mapping[str, str], job_id: UUID, key: PrivateKey) -> bytes:
    """The seal over all other members, given by name and digest."""
    subjects = [Subject.of(name, digests[name]) for name in sorted(digests)]
    statement = statement_build(subjects, BUNDLE_PREDICATE_TYPE, {"bundle_version": BUNDLE_VERSION, "job": str(job_id)})
    return envelope_sign(statement, PAYLOAD_TYPE_STATEMENT, key)


def seal_open(envelope: bytes, *, key: PublicKey) -> dict[str, str]:
    """What the seal says of each other member: name and digest.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, StatementMalformedError,
    StatementTypeWrongError.
    """
    payload = envelope_open(envelope, payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
    statement = statement_parse(payload, predicate_type=BUNDLE_PREDICATE_TYPE)
    return {subject.name: subject.digest_text for subject in statement.subjects}
