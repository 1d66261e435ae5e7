"""From what a host sent to a receipt that is worth looking up: its envelope, its statement, and the blobs that came along.

Nothing here looks at leases or jobs: what is refused here is refused by its own bytes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ValidationError

from nodes.models import Node
from nodes.selectors import node_public_key
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_read
from workers.protocol.errors import EnvelopeMalformedError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.delivery import RECEIPT_BLOB_BYTES_MAX, RECEIPT_ENVELOPE_BYTES_MAX, SubmittedReceipt
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, ReceiptPredicate, StoredObject
from workers.protocol.plurals import counted
from workers.protocol.problems import ProblemError
from workers.protocol.statements import statement_parse
from workers.protocol.strict_base64 import base64_decode
from workers.protocol.validation import validation_errors


class ReceiptInvalidError(ProblemError):
    """The statement's predicate is not a receipt; `errors` says where and why."""

    code: ClassVar[str] = "receipt_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The receipt is not valid"


class ReceiptBlobWrongError(ProblemError):
    """Bytes came along that are not those which the receipt names, or too many; `member` says which."""

    code: ClassVar[str] = "receipt_blob_wrong"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "Bytes came along that the receipt doesn't name"


@dataclass(frozen=True)
class ReadReceipt:
    """A receipt, signed by a key of the node that sent it. `blobs`: what came along, by digest, as the receipt names it."""

    envelope: bytes
    digest: str
    predicate: ReceiptPredicate
    key: PublicKey
    blobs: dict[str, bytes]


class NodeKeys:
    """The keys that are or were a node's, each looked up once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._known: dict[str, PublicKey] = {}

    def find(self, key_id: str) -> PublicKey:
        """As `node_public_key`."""
        if key_id not in self._known:
            self._known[key_id] = node_public_key(node=self._node, key_id=key_id)
        return self._known[key_id]


def receipt_read(submitted: SubmittedReceipt, *, keys: NodeKeys) -> ReadReceipt:
    """What a node has sent, as far as its own bytes prove it.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, StatementMalformedError,
    StatementTypeWrongError, ReceiptInvalidError, ReceiptBlobWrongError.
    """
    envelope = envelope_read(submitted.envelope)
    envelope_bytes = envelope.encode()
    if len(envelope_bytes) > RECEIPT_ENVELOPE_BYTES_MAX:
        raise EnvelopeMalformedError(
            f"A receipt's envelope has at most {RECEIPT_ENVELOPE_BYTES_MAX} bytes; this one has {len(envelope_bytes)}. Say less in it."
        )
    key = keys.find(envelope.key_id)
    payload = envelope.opened(payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
    predicate = _predicate_of(payload)
    blobs = {
        **_blob_of("log", submitted.log, predicate.log),
        **_blob_of("archive", submitted.archive, predicate.archive),
    }
    return ReadReceipt(envelope_bytes, digest_of(payload), predicate, key, blobs)


def _predicate_of(payload: bytes) -> ReceiptPredicate:
    statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
    try:
        predicate = ReceiptPredicate.model_validate(statement.predicate)
    except ValidationError as error:
        faults = validation_errors(error)
        where = faults[0]["path"] or "the whole"
        raise ReceiptInvalidError(
            f"The predicate is not a receipt: {counted(len(faults), 'fault')}, the first at {where!r}: {faults[0]['message']}.",
            errors=faults,
        ) from error
    if predicate.finished_at < predicate.started_at:
        raise ReceiptInvalidError(
            f"A run ends after it starts; found {predicate.finished_at.isoformat()} before {predicate.started_at.isoformat()}."
        )
    return predicate


def _blob_of(member: Literal["log", "archive"], encoded: str | None, stated: StoredObject | None) -> dict[str, bytes]:
    """{digest: bytes} of a blob that came along; empty for none."""
    if encoded is None:
        return {}
    if stated is None:
        raise _wrong(member, "the receipt names none. Leave it out.")
    if len(encoded) > RECEIPT_BLOB_BYTES_MAX // 3 * 4 + 4:
        raise _wrong(member, f"it has more than {RECEIPT_BLOB_BYTES_MAX} bytes. Upload it, then send the receipt without it.")
    try:
        data = base64_decode(encoded)
    except ValueError as error:
        raise _wrong(member, f"{error}.") from error
    if len(data) > RECEIPT_BLOB_BYTES_MAX:
        raise _wrong(member, f"it has more than {RECEIPT_BLOB_BYTES_MAX} bytes. Upload it, then send the receipt without it.")
    found = digest_of(data)
    if (found, len(data)) != (stated.digest, stated.size_bytes):
        raise _wrong(member, f"expected {stated.size_bytes} bytes with the digest {stated.digest}, found {len(data)} with {found}.")
    return {found: data}


def _wrong(member: str, fault: str) -> ReceiptBlobWrongError:
    return ReceiptBlobWrongError(f"The {member} that came along won't do: {fault}", member=member)
