"""From items to a signed checkpoint: the sequencer of the Merkle log (RFC 9162, with C2SP checkpoints).

1. Items commit in any order; a leaf gets its index here, when its item is durable. Indexes have no gaps and never move.
2. One integration at a time (an advisory lock), in batches; leaves and checkpoint are one transaction, so what is visible is durable.
3. That transaction waits for the disk whatever the session says. Logs are flushed in order, so what others committed without waiting and
   is covered here is on the disk as well.
4. The compact range is kept with each checkpoint: integration reads no old leaf.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction

from ledger.coordinator_key import coordinator_private_key
from ledger.models import Checkpoint, Epoch
from workers.protocol import signed_note
from workers.protocol.merkle import CompactRange

BATCH_ITEMS = 5000
_SEQUENCER_LOCK: Final = 0x6E657861  # "nexa"
_INTEGRATE: Final = r"""INSERT INTO ledger_logleaf (index, item_id, hash)
    SELECT %s + row_number() OVER (ORDER BY item.id) - 1, item.id, sha256('\x00'::bytea || item.data)
    FROM (SELECT item_id FROM ledger_pendingitem ORDER BY item_id LIMIT %s) pending JOIN ledger_logitem item ON item.id = pending.item_id
    RETURNING index, hash"""


def log_epoch() -> int:
    """The number of the present epoch; 1 until a restore began another."""
    return Epoch.objects.order_by("-number").values_list("number", flat=True).first() or 1


def log_origin(epoch: int | None = None) -> str:
    """The name of this log in checkpoints of an epoch, the present one by default: authority and path, without a scheme."""
    number = epoch or log_epoch()
    name = f"{urlsplit(settings.NEXA_ORIGIN).netloc}/ledger"
    return name if number == 1 else f"{name}/{number}"


def checkpoint_latest() -> Checkpoint | None:
    """The newest published checkpoint; None before the first entry."""
    return Checkpoint.objects.order_by("-pk").first()


def checkpoint_publish() -> Checkpoint | None:
    """Integrates all committed items and signs a checkpoint over the log; returns the newest. Idempotent, safe to run twice at once."""
    while _batch_integrate() == BATCH_ITEMS:
        pass
    return checkpoint_latest()


@transaction.atomic(durable=True)
def _batch_integrate() -> int:
    """Integrates up to BATCH_ITEMS items and signs, in one transaction; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = on")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEQUENCER_LOCK])
        latest = checkpoint_latest()
        tree = CompactRange(latest.size, [bytes.fromhex(one) for one in latest.compact_range]) if latest else CompactRange()
        cursor.execute(_INTEGRATE, [tree.size, BATCH_ITEMS])
        hashes = [leaf for _, leaf in sorted(cursor.fetchall())]
    if hashes:
        tree.extend(bytes(leaf) for leaf in hashes)
        _checkpoint_sign(tree)
    return len(hashes)


def _checkpoint_sign(tree: CompactRange) -> Checkpoint:
    epoch = log_epoch()
    origin = log_origin(epoch)
    text = signed_note.Checkpoint(origin, tree.size, tree.root()).to_text()
    return Checkpoint.objects.create(
        epoch=epoch,
        size=tree.size,
        root=tree.root(),
        compact_range=[one.hex() for one in tree.hashes],
        note=signed_note.note_sign(text, origin, coordinator_private_key()).decode("utf-8"),
    )
