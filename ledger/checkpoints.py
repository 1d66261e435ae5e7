"""From entries to a signed checkpoint: the sequencer of the Merkle log (RFC 9162, with C2SP checkpoints).

1. Entries commit in any order; a leaf gets its index here, when its entry is durable. Indexes have no gaps and never move.
2. One integration at a time (an advisory lock), in batches; leaves and checkpoint are one transaction, so what is visible is durable.
3. The compact range is kept with each checkpoint: integration reads no old leaf.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction

from ledger.coordinator_key import coordinator_private_key
from ledger.models import Checkpoint, Entry, LogLeaf, PendingEntry
from workers.protocol import signed_note
from workers.protocol.canonical import canonical_json
from workers.protocol.merkle import CompactRange, leaf_hash

BATCH_ENTRIES = 5000
_SEQUENCER_LOCK = 0x6E657861  # "nexa"


def log_origin() -> str:
    """The name of this log in checkpoints: the portal's authority and path, without a scheme."""
    return f"{urlsplit(settings.NEXA_ORIGIN).netloc}/ledger"


def checkpoint_latest() -> Checkpoint | None:
    """The newest published checkpoint; None before the first entry."""
    return Checkpoint.objects.order_by("-size").first()


def checkpoint_publish() -> Checkpoint | None:
    """Integrates all committed entries and signs a checkpoint over the log; returns the newest. Idempotent, safe to run twice at once."""
    while True:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEQUENCER_LOCK])
            integrated = _batch_integrate()
        if integrated < BATCH_ENTRIES:
            return checkpoint_latest()


def leaf_data(entry: Entry) -> bytes:
    """What the log holds of an entry, as canonical JSON: ids and digests, amounts as strings, no names. Its postings are prefetched."""
    return canonical_json(
        {
            "entry": str(entry.pk),
            "kind": entry.kind,
            "key": entry.idempotency_key,
            "at": entry.created_at.isoformat(),
            "evidence": entry.evidence,
            "postings": [
                {"account": str(posting.account_id), "amount_micro": str(posting.amount_micro)}
                for posting in sorted(entry.postings.all(), key=lambda posting: posting.pk)
            ],
        }
    )


def _batch_integrate() -> int:
    """Integrates up to BATCH_ENTRIES entries in one transaction that holds the sequencer lock; returns how many."""
    pending = list(PendingEntry.objects.order_by("pk").values_list("pk", flat=True)[:BATCH_ENTRIES])
    if not pending:
        return 0
    latest = checkpoint_latest()
    tree = CompactRange(latest.size, [bytes.fromhex(one) for one in latest.compact_range]) if latest else CompactRange()
    leaves = [
        LogLeaf(index=tree.size + place, entry=entry, data=leaf_data(entry))
        for place, entry in enumerate(Entry.objects.filter(pk__in=pending).order_by("pk").prefetch_related("postings"))
    ]
    LogLeaf.objects.bulk_create(leaves)
    tree.extend(leaf_hash(bytes(leaf.data)) for leaf in leaves)
    PendingEntry.objects.filter(pk__in=pending).delete()
    origin = log_origin()
    text = signed_note.Checkpoint(origin, tree.size, tree.root()).to_text()
    Checkpoint.objects.create(
        size=tree.size,
        root=tree.root(),
        compact_range=[one.hex() for one in tree.hashes],
        note=signed_note.note_sign(text, origin, coordinator_private_key()).decode("utf-8"),
    )
    return len(leaves)
