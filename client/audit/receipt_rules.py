"""What must be true of node keys and receipts, in the order of the log.

1. A node key is registered once, as a usable Ed25519 key, before any receipt that it signed.
2. A receipt's envelope verifies under the registered key that it names. Its payload has the digest that the leaf names, and is a statement
   about the leaf's replica by that key; its subjects are the digests that its predicate names. An accepted one says `completed`.
3. An order has one receipt (a replica too: it is the key of the leaf). All receipts of a job name one quorum and one
   choice, and all or none are ruled.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from client.audit.books import AcceptedReceipt, Books, NodeKey
from client.audit.findings import FindingCode
from client.audit.names import NAME_ORDER, key_check, name_digest
from client.audit.spot_rules import choice_check
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_read
from workers.protocol.errors import KeyMalformedError, SignatureInvalidError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.leaves import NodeKeyLeaf, ReceiptLeaf
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, ReceiptPredicate
from workers.protocol.plurals import counted
from workers.protocol.statements import Statement, statement_parse

ACCEPTED_MAX: Final = 64
"""Of one job: as many as a quorum can ask for, and twice the replicas that a job may use."""


def node_key_check(books: Books, index: int, leaf: NodeKeyLeaf) -> None:
    """Registers a node key."""
    books.counts.node_keys += 1
    try:
        key = PublicKey.from_base64(leaf.public_key)
    except KeyMalformedError as error:
        books.findings.add(FindingCode.NODE_KEY_MALFORMED, index, str(error))
        return
    key_check(books, index, leaf, f"node_key:{key.key_id}")
    place = _key_place(key.key_id)
    if books.node_keys.get(place) is not None:
        books.findings.add(FindingCode.NODE_KEY_REPEATED, index, f"The key {key.key_id} was registered before; the first account counts.")
        return
    books.node_keys.put(place, NodeKey(key, leaf.account.hex))


def receipt_check(books: Books, index: int, leaf: ReceiptLeaf) -> None:
    """Judges a receipt. An accepted one that is not what it must be earns nothing: its payment will be found without one."""
    books.counts.receipts += 1
    replica, job_id = leaf.replica.hex, leaf.job.hex
    key_check(books, index, leaf, f"receipt:{leaf.replica}")
    job = books.job(job_id)
    if job.reserver is None:
        books.findings.add(FindingCode.JOB_UNRESERVED, index, f"A receipt of the job {leaf.job}, for which nothing was reserved before.")
    spot = None if leaf.spot is None else (leaf.spot.spot_key.hex, leaf.spot.share, leaf.spot.chosen)
    if job.quorum is None:
        job.quorum, job.ruled, job.spot = leaf.quorum, leaf.ruled, spot
        books.counts.jobs_ruled += leaf.ruled
        if leaf.spot is not None:
            choice_check(books, index, leaf, leaf.spot)
    elif (job.quorum, job.ruled, job.spot) != (leaf.quorum, leaf.ruled, spot):
        message = f"An earlier receipt of the job {leaf.job} names another quorum, choice or way to decide."
        books.findings.add(FindingCode.RECEIPTS_CONTRADICT, index, message)
    job.receipt_leaf, job.receipt_at = index, leaf.at.isoformat()
    found = _receipt_open(books, index, leaf)
    if leaf.accepted:
        job.accepted_leaf, job.accepted_at = index, job.receipt_at
        if found is None:
            job.refused += 1
        elif len(job.accepted) >= ACCEPTED_MAX:
            message = f"The job {leaf.job} has more than {ACCEPTED_MAX} accepted receipts."
            books.findings.add(FindingCode.RECEIPTS_CONTRADICT, index, message)
        else:
            job.accepted.setdefault(replica, AcceptedReceipt(leaf.receipt, *found))
    books.job_put(job_id, job)


def _receipt_open(books: Books, index: int, leaf: ReceiptLeaf) -> tuple[str, str] | None:
    """The key id and the account that earned it; None after a finding."""
    add = books.findings.add
    try:
        envelope = envelope_read(leaf.envelope)
        key_id = envelope.key_id
        key = books.node_keys.get(_key_place(key_id))
        if key is None:
            add(FindingCode.RECEIPT_KEY_UNKNOWN, index, f"It names the key {key_id}, which the log has not registered before.")
            return None
        payload = envelope.opened(payload_type=PAYLOAD_TYPE_STATEMENT, key=key.public_key)
        if digest_of(payload) != leaf.receipt:
            add(FindingCode.RECEIPT_MISMATCH, index, f"The receipt is said to be {leaf.receipt}; the envelope holds {digest_of(payload)}.")
            return None
        statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        predicate = ReceiptPredicate.model_validate(statement.predicate)
    except SignatureInvalidError as error:
        add(FindingCode.RECEIPT_SIGNATURE_INVALID, index, str(error))
        return None
    except (VerificationError, ValidationError) as error:
        what = f"{counted(error.error_count(), 'fault')} in its predicate" if isinstance(error, ValidationError) else str(error)
        add(FindingCode.RECEIPT_MALFORMED, index, f"Not a receipt: {what}")
        return None
    if contradiction := _contradiction(leaf, statement, predicate, key_id):
        add(FindingCode.RECEIPT_MISMATCH, index, contradiction)
        return None
    books.names.append(name_digest(predicate.order_digest), NAME_ORDER, index)
    return key_id, key.account


def _contradiction(leaf: ReceiptLeaf, statement: Statement, predicate: ReceiptPredicate, key_id: str) -> str | None:
    """Where leaf, envelope and payload say different things."""
    if predicate.replica_id != leaf.replica:
        return f"The leaf is about the replica {leaf.replica}, the receipt about {predicate.replica_id}."
    if predicate.node_key_id != key_id:
        return f"The envelope is signed by {key_id}; the receipt names the key {predicate.node_key_id}."
    if leaf.accepted and predicate.outcome != "completed":
        return "It was accepted, and says that the run failed."
    stated = {"log": predicate.log.digest}
    if predicate.archive is not None:
        stated["archive"] = predicate.archive.digest
    if predicate.result_digest is not None:
        stated["manifest"] = predicate.result_digest
    if stated != {subject.name: subject.digest_text for subject in statement.subjects}:
        return "Its subjects are not what its predicate names."
    return None


def _key_place(key_id: str) -> bytes:
    """The 32 bytes of a well-formed key id."""
    return bytes.fromhex(key_id.removeprefix("sha256:"))
