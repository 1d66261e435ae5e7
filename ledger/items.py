"""What the log takes in beside entries: receipts of concluded jobs, keys of nodes, and the keys that choose which jobs run twice.

Each is one leaf (workers/protocol/leaves.py), written in the caller's transaction, once: its key again, with the same content, changes
nothing; with another content it is EntryConflictError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.utils import timezone

from ledger.models import Account, LogItem
from ledger.movements import EntryConflictError
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.leaves import LEAF_BYTES_MAX, SpotChoice

_ITEMS: Final = """INSERT INTO ledger_logitem (kind, key, data, created_at)
    SELECT kind, key, data, %s FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS given (kind, key, data)"""


@dataclass(frozen=True)
class ConcludedReceipt:
    """A receipt of a job that was concluded: `envelope` as the host signed it (DSSE, canonical JSON), `digest` that of its payload.

    `quorum`: how many had to agree. `spot` is None unless the job's policy is `spot`.
    """

    job_id: UUID
    replica_id: UUID
    digest: str
    envelope: bytes
    accepted: bool
    quorum: int
    spot: SpotChoice | None
    is_ruled: bool = False
    """A moderator decided."""


def receipts_log(receipts: Sequence[ConcludedReceipt]) -> None:
    """Puts them into the log, in two statements. Raises EntryConflictError, ValueError where a leaf would be too long."""
    _items_log([_receipt_document(receipt) for receipt in receipts])


def node_key_log(*, node_id: UUID, key: PublicKey, account: Account) -> None:
    """A node's new key, and the account that its work is paid to."""
    named = {"node": str(node_id), "public_key": key.to_base64(), "account": str(account.pk)}
    _items_log([{"kind": "node_key", "key": f"node_key:{key.key_id}", **named}])


def spot_commitment_log(*, spot_key_id: UUID, secret: bytes) -> None:
    """Binds the coordinator to a key (32 bytes) that chooses which `spot` jobs run twice, without telling it."""
    named = {"spot_key": str(spot_key_id), "commitment": digest_of(secret)}
    _items_log([{"kind": "spot_commitment", "key": f"spot_commitment:{spot_key_id}", **named}])


def spot_key_log(*, spot_key_id: UUID, secret: bytes) -> None:
    """Tells the key (32 bytes) when it chooses no more."""
    _items_log([{"kind": "spot_key", "key": f"spot_key:{spot_key_id}", "spot_key": str(spot_key_id), "secret": secret.hex()}])


def _receipt_document(receipt: ConcludedReceipt) -> dict[str, Any]:
    return {
        "kind": "receipt",
        "key": f"receipt:{receipt.replica_id}",
        "job": str(receipt.job_id),
        "replica": str(receipt.replica_id),
        "receipt": receipt.digest,
        "accepted": receipt.accepted,
        "quorum": receipt.quorum,
        "spot": receipt.spot.model_dump(mode="json") if receipt.spot else None,
        **({"ruled": True} if receipt.is_ruled else {}),
        "envelope": json_parse(receipt.envelope, limit_bytes=LEAF_BYTES_MAX),
    }


def _items_log(documents: Sequence[Mapping[str, Any]]) -> None:
    """Writes those whose key is new, in this order."""
    if not documents:
        return
    new: dict[str, Mapping[str, Any]] = {}
    for document in documents:
        if new.setdefault(str(document["key"]), document) != document:
            raise EntryConflictError(f"{document['key']} comes twice, with different content")
    for key, data in LogItem.objects.filter(key__in=list(new)).values_list("key", "data"):
        written = json_parse(bytes(data), limit_bytes=LEAF_BYTES_MAX)
        if {**new.pop(key), "at": written["at"]} != written:
            raise EntryConflictError(f"{key} was put into the log before, with another content")
    if not new:
        return
    now = timezone.now()
    leaves = [canonical_json({**document, "at": now.isoformat()}) for document in new.values()]
    for key, one in zip(new, leaves, strict=True):
        if len(one) > LEAF_BYTES_MAX:
            raise ValueError(f"{key}: expected a leaf of at most {LEAF_BYTES_MAX} bytes, found {len(one)}")
    with connection.cursor() as cursor:
        cursor.execute(_ITEMS, [now, [str(document["kind"]) for document in new.values()], list(new), leaves])
