"""Receipts: what a host says it did with an order, taken in once, byte for byte.

A receipt is believed here only as far as this goes:

1. The envelope is signed by a key of the node that sends it, and holds one receipt statement.
2. It names a lease of this node, and that lease's replica and order, and the key that took it, which the node may have replaced since.
3. The blobs that it names were committed by this lease's own uploads, with the sizes that it says.
4. Its run doesn't end before it starts.

What the blobs hold is for verification. The same receipt again gives the same answer; another one for the same lease is refused.

While the job is open, a receipt counts even if the lease had expired. After that it is recorded as late, unpaid, and its blobs may be
missing: a host whose job is closed need not finish its uploads.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.db import transaction
from pydantic import ValidationError

from jobs.models import Blob, Job, Receipt, Replica
from jobs.nudges import nudge_on_commit, verification_nudge
from jobs.services.failures import replica_failed
from jobs.services.transitions import job_state_derive, replica_transition
from jobs.services.uploads import LeaseUnknownError
from jobs.states import JOB_OPEN, REPLICA_LIVE, REPLICA_VOTES, JobState, ReplicaState
from nodes.models import Node
from nodes.selectors import node_public_key
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_encode, envelope_key_id, envelope_open
from workers.protocol.keys import PublicKey
from workers.protocol.messages import RECEIPT_PREDICATE_TYPE, ReceiptPredicate, StoredObject
from workers.protocol.problems import ProblemError
from workers.protocol.statements import statement_parse
from workers.protocol.validation import validation_errors


class ReceiptInvalidError(ProblemError):
    """The statement's predicate is not a receipt; `errors` says where and why."""

    code: ClassVar[str] = "receipt_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The receipt is not valid"


class ReceiptMismatchError(ProblemError):
    """The receipt is about another order, replica or node than its lease."""

    code: ClassVar[str] = "receipt_mismatch"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The receipt does not fit its lease"


class ReceiptBlobMissingError(ProblemError):
    """The receipt names bytes that were not uploaded for its lease."""

    code: ClassVar[str] = "receipt_blob_missing"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Bytes that the receipt names are missing"


class ReceiptConflictError(ProblemError):
    """There is another receipt for the lease."""

    code: ClassVar[str] = "receipt_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "There is another receipt for this lease"


def receipt_accept(*, node: Node, envelope: Mapping[str, Any], now: datetime) -> Receipt:
    """Takes in a receipt of `node`, or returns the row of the same one taken in before.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, StatementMalformedError,
    StatementTypeWrongError, ReceiptInvalidError, ReceiptMismatchError, ReceiptBlobMissingError, ReceiptConflictError,
    LeaseUnknownError.
    """
    envelope_bytes = envelope_encode(envelope)
    key = node_public_key(node=node, key_id=envelope_key_id(envelope_bytes))
    payload = envelope_open(envelope_bytes, payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
    predicate = _predicate_of(payload)
    digest = digest_of(payload)
    found = Replica.objects.filter(node=node, lease_id=predicate.lease_id).values_list("pk", "job_id").first()
    if found is None:
        raise LeaseUnknownError("This node has no lease of the id that the receipt names. Send a receipt by the node that ran the order.")
    with transaction.atomic():
        job = Job.objects.select_for_update(no_key=True).get(pk=found[1])
        replica = Replica.objects.select_for_update(no_key=True).get(pk=found[0])
        replica.job = job
        existing = Receipt.objects.filter(replica=replica).first()
        if existing is not None:
            if existing.digest != digest:
                raise ReceiptConflictError(
                    f"The receipt {existing.digest} is recorded for this lease; found {digest}. A lease has one receipt."
                )
            return existing
        _lease_check(predicate, replica, key)
        late = _is_late(replica, job)
        receipt = Receipt.objects.create(
            replica=replica,
            envelope=envelope_bytes,
            digest=digest,
            predicate=predicate.model_dump(mode="json"),
            archive=_blob(replica, "archive", predicate.archive, late=late) if predicate.archive else None,
            log=_blob(replica, "log", predicate.log, late=late),
            result_digest=predicate.result_digest or "",
            late=late,
        )
        if not late:
            _carry_out(replica, job, predicate, now)
    return receipt


def _predicate_of(payload: bytes) -> ReceiptPredicate:
    statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
    try:
        predicate = ReceiptPredicate.model_validate(statement.predicate)
    except ValidationError as error:
        faults = validation_errors(error)
        where = faults[0]["path"] or "the whole"
        raise ReceiptInvalidError(
            f"The predicate is not a receipt: {len(faults)} faults, the first at {where!r}: {faults[0]['message']}.", errors=faults
        ) from error
    if predicate.finished_at < predicate.started_at:
        raise ReceiptInvalidError(
            f"A run ends after it starts; found {predicate.finished_at.isoformat()} before {predicate.started_at.isoformat()}."
        )
    return predicate


def _lease_check(predicate: ReceiptPredicate, replica: Replica, key: PublicKey) -> None:
    for name, expected, stated in (
        ("order_digest", replica.order_digest, predicate.order_digest),
        ("replica_id", str(replica.pk), str(predicate.replica_id)),
        ("node_key_id", str(replica.node_key_id), predicate.node_key_id),
        ("key", str(replica.node_key_id), key.key_id),
    ):
        if stated != expected:
            raise ReceiptMismatchError(f"The lease {replica.lease_id} has {name} {expected}; the receipt says {stated}.", member=name)


def _is_late(replica: Replica, job: Job) -> bool:
    """Whether this receipt can't count: its job is closed, or the lease was cancelled."""
    state = ReplicaState(replica.state)
    if JobState(job.state) not in JOB_OPEN or state not in REPLICA_LIVE | {ReplicaState.EXPIRED}:
        return True
    # A lease that expired and another of the same owner that reported since: one vote for each owner.
    votes = job.replicas.filter(node_owner=replica.node_owner_id, state__in=REPLICA_VOTES)
    return state == ReplicaState.EXPIRED and votes.exists()


def _blob(replica: Replica, name: str, stated: StoredObject, *, late: bool) -> Blob | None:
    """The blob that this lease uploaded as the receipt says; None if it is missing and that doesn't matter any more."""
    upload = replica.uploads.filter(digest=stated.digest, size_bytes=stated.size_bytes, committed_at__isnull=False).first()
    if upload is not None:
        return Blob.objects.get(pk=stated.digest)
    if late:
        return None
    raise ReceiptBlobMissingError(
        f"The {name}, {stated.size_bytes} bytes with the digest {stated.digest}, was not uploaded for this lease. "
        "Upload it, then send the receipt again.",
        digest=stated.digest,
    )


def _carry_out(replica: Replica, job: Job, predicate: ReceiptPredicate, now: datetime) -> None:
    if predicate.failure is not None:
        replica_failed(replica=replica, job=job, failure=predicate.failure, now=now)
        return
    if replica.state == ReplicaState.EXPIRED:
        _substitute_withdraw(replica, job, now)
    replica_transition(replica=replica, to=ReplicaState.REPORTED)
    # Receipts before this one may have been checked and wait for company: now there is some.
    job.replicas.filter(state=ReplicaState.REPORTED).update(verify_claimed_until=None)
    job_state_derive(job=job)
    nudge_on_commit(verification_nudge)


def _substitute_withdraw(replica: Replica, job: Job, now: datetime) -> None:
    """An expired lease reports after all: its substitute is needed no more, unless somebody works on it."""
    own = job.replicas.select_for_update(no_key=True).filter(node_owner=replica.node_owner_id, state__in=REPLICA_LIVE).first()
    queued = job.replicas.select_for_update(no_key=True).filter(state=ReplicaState.QUEUED).order_by("-created_at").first()
    surplus = own or queued
    if surplus is not None:
        surplus.job = job
        reason = "The lease that this one stood in for was reported."
        replica_transition(replica=surplus, to=ReplicaState.CANCELLED, cancel_reason=reason, concluded_at=now)
