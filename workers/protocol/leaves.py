"""What the ledger's log holds: one leaf a happening, canonical JSON of at most LEAF_BYTES_MAX bytes. The coordinator writes, auditors read.

Every leaf has `kind`, `key` (no two leaves of a log share one) and `at`. By kind:

    grant, reservation, payment, refund, transfer, reversal
                        an entry: credits that moved between opaque accounts, with its evidence
    node_key            a node's key is registered, and the account that its work is paid to
    receipt             a job was concluded: the host's signed receipt, whole, and whether it was accepted
    spot_commitment     the digest of a key that will choose which `spot` jobs run twice, before it chooses any
    spot_key            the key itself, when nothing can be foreseen with it any more

Numbers beyond what JSON carries exactly are strings of decimal digits. Nothing here names a person, a file or an image.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError

from workers.protocol.canonical import json_parse
from workers.protocol.digests import Digest, DigestHex
from workers.protocol.errors import JsonMalformedError, JsonTooLargeError, VerificationError
from workers.protocol.messages.base import Message

LEAF_BYTES_MAX: Final = 65_535
"""Two bytes of length in tlog-tiles."""

ACCOUNT_TREASURY: Final = UUID("00000000-0000-4000-8000-000000000001")
"""Issues credits: grants come from it, their reversals go back. The only account whose balance may be negative."""
ACCOUNT_ESCROW: Final = UUID("00000000-0000-4000-8000-000000000002")
"""Where reservations wait for payments and refunds."""

EntryKindName = Literal["grant", "reservation", "payment", "refund", "transfer", "reversal"]
Key = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Micro = Annotated[str, StringConstraints(pattern=r"^-?(0|[1-9][0-9]{0,18})$")]
"""Whole millionths of a credit."""


class LeafMalformedError(VerificationError):
    """The bytes of a leaf are none that a coordinator writes."""

    code = "leaf_malformed"


class PostingLine(Message):
    """One side of an entry."""

    account: UUID
    amount_micro: Micro


class EntryLeaf(Message):
    """A balanced movement: two postings or more that sum to zero. What `evidence` holds by kind is in docs/PROTOCOL.md, section 15."""

    kind: EntryKindName
    key: Key
    at: AwareDatetime
    entry: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,18}$")]
    evidence: dict[str, Any]
    postings: Annotated[tuple[PostingLine, ...], Field(min_length=2, max_length=64)]


class NodeKeyLeaf(Message):
    """`public_key`: base64 of 32 bytes. Work that it signs is paid to `account`."""

    kind: Literal["node_key"]
    key: Key
    at: AwareDatetime
    node: UUID
    public_key: Annotated[str, StringConstraints(max_length=44)]
    account: UUID


class SpotChoice(Message):
    """Which key chose, with which share of jobs, and what it chose (`spot_chosen` computes the same)."""

    spot_key: UUID
    share: Annotated[str, StringConstraints(max_length=32)]
    chosen: bool


class ReceiptLeaf(Message):
    """A receipt of a concluded job. `quorum`: how many had to agree. `spot` is null unless the job's policy is `spot`. `ruled`: the job was
    disputed, and a moderator decided; then no quorum did.

    `envelope` is the receipt as the host signed it (DSSE, an object); its payload names the order, the replica and the key.
    """

    kind: Literal["receipt"]
    key: Key
    at: AwareDatetime
    job: UUID
    replica: UUID
    receipt: Digest
    accepted: bool
    quorum: int = Field(ge=1, le=64)
    spot: SpotChoice | None
    ruled: bool = False
    envelope: dict[str, Any]


class SpotCommitmentLeaf(Message):
    """`commitment` is the SHA-256 of the 32 bytes of the key."""

    kind: Literal["spot_commitment"]
    key: Key
    at: AwareDatetime
    spot_key: UUID
    commitment: Digest


class SpotKeyLeaf(Message):
    """`secret`: the key, 64 hexadecimal digits."""

    kind: Literal["spot_key"]
    key: Key
    at: AwareDatetime
    spot_key: UUID
    secret: DigestHex


Leaf = EntryLeaf | NodeKeyLeaf | ReceiptLeaf | SpotCommitmentLeaf | SpotKeyLeaf

_LEAF: Final[TypeAdapter[Leaf]] = TypeAdapter(Annotated[Leaf, Field(discriminator="kind")])


def leaf_parse(data: bytes) -> Leaf:
    """The leaf that `data` spells. Raises LeafMalformedError. That it is in canonical JSON is a matter of its hash, not checked here."""
    try:
        return _LEAF.validate_python(json_parse(data, limit_bytes=LEAF_BYTES_MAX))
    except (JsonMalformedError, JsonTooLargeError) as error:
        raise LeafMalformedError(f"Expected a leaf as JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"])[:200] or "the whole"
        raise LeafMalformedError(f"Expected a leaf of a kind that this version knows; at {where}: {first['msg']}.") from error


def spot_chosen(*, secret: bytes, job_id: UUID, share: float) -> bool:
    """Whether the key `secret` (32 bytes) has a `spot` job run twice: the first 8 bytes of HMAC-SHA256 over the job's id are below `share`.

    A job id decides once and for all: leaving a lease and taking it again changes nothing.
    """
    drawn = int.from_bytes(hmac.digest(secret, job_id.bytes, hashlib.sha256)[:8], "big")
    return drawn < share * 2**64
