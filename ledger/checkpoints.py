"""From items to a signed checkpoint: the sequencer of the Merkle log (RFC 9162, with C2SP checkpoints).

1. Items commit in any order; a leaf gets its index here, when its item is durable. Indexes have no gaps and never move.
2. One sequencer at a time (an advisory lock), in batches; leaves and checkpoint are one transaction, so what is visible is durable.
3. That transaction waits for the disk whatever the session says. Logs are flushed in order, so what others committed without waiting and
   is covered here is on the disk as well. Files follow (ledger/publication.py).
4. The compact range is kept with each checkpoint: integration reads no old leaf.
5. What is signed continues what was signed: the newest checkpoint's row counts only if this coordinator's signature is under it. Whoever
   can change the tables but has no key can't have another history signed.
6. The present key signs; while it is given, the one before signs too. Another key, or another epoch: the same leaves are signed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction

from ledger.coordinator_key import coordinator_previous_key, coordinator_private_key
from ledger.models import Checkpoint, Epoch
from ledger.publication import publish, published_check, published_note
from workers.protocol import signed_note
from workers.protocol.epochs import ContinuedLog, epoch_open, log_origin_of
from workers.protocol.errors import KeyWrongError, ProofRangeError, VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import CompactRange
from workers.protocol.strict_base64 import base64_encode

BATCH_ITEMS = 5000


class CheckpointUnprovenError(Exception):
    """The newest checkpoint in the database is none that this coordinator signed; the message says what to do."""

    code = "ledger_checkpoint_unproven"


_SEQUENCER_LOCK: Final = 0x6E657861  # "nexa"
# One look-up for each pending item: a join the planner would make by reading all items that the log ever had.
_INTEGRATE: Final = r"""INSERT INTO ledger_logleaf (index, item_id, hash)
    SELECT %s + row_number() OVER (ORDER BY pending.item_id) - 1, pending.item_id, sha256('\x00'::bytea || item.data)
    FROM (SELECT item_id FROM ledger_pendingitem ORDER BY item_id LIMIT %s) pending
    CROSS JOIN LATERAL (SELECT data FROM ledger_logitem WHERE id = pending.item_id OFFSET 0) item
    RETURNING index, hash"""


def log_epoch() -> int:
    """The number of the present epoch; 1 until a restore began another."""
    return Epoch.objects.order_by("-number").values_list("number", flat=True).first() or 1


def log_authority() -> str:
    """The portal's authority, which its logs are named after."""
    return urlsplit(settings.NEXA_ORIGIN).netloc


def log_origin(epoch: int | None = None) -> str:
    """The name of this log in the checkpoints of an epoch, the present one by default."""
    return log_origin_of(log_authority(), epoch or log_epoch())


def checkpoint_latest() -> Checkpoint | None:
    """The newest checkpoint; None before the first entry."""
    return Checkpoint.objects.order_by("-pk").first()


def checkpoint_publish() -> Checkpoint | None:
    """Integrates all committed items, signs a checkpoint over the log and publishes it; returns the newest.

    Idempotent, safe to run twice at once, and after any kill: what a run left undone the next one does. Raises PublishedAheadError,
    PublishedUnreadableError, CheckpointUnprovenError, CoordinatorKeyMissingError, OSError.
    """
    with sequencer_lock():
        published_check(epoch=log_epoch())
        is_full = True
        while is_full:
            is_full = _batch_integrate() == BATCH_ITEMS
            # After each batch: what is in it doesn't wait for those behind it.
            if (latest := checkpoint_latest()) is not None:
                publish(latest)
        return latest


@contextmanager
def sequencer_lock() -> Iterator[None]:
    """Held by whoever gives indexes, signs, publishes, or begins an epoch. A connection that ends gives it back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_SEQUENCER_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_SEQUENCER_LOCK])


@transaction.atomic(durable=True)
def _batch_integrate() -> int:
    """Integrates up to BATCH_ITEMS items and signs, in one transaction; returns how many."""
    epoch, keys = log_epoch(), _signing_keys()
    latest = checkpoint_latest()
    tree = _tree_of(latest, keys) if latest else CompactRange()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = on")
        cursor.execute(_INTEGRATE, [tree.size, BATCH_ITEMS])
        hashes = [bytes(leaf) for _, leaf in sorted(cursor.fetchall())]
    tree.extend(hashes)
    if hashes or (latest is not None and not _is_signed(latest, epoch, keys)):
        _checkpoint_sign(tree, epoch, keys)
    return len(hashes)


def _tree_of(latest: Checkpoint, keys: list[PrivateKey]) -> CompactRange:
    """Where the log goes on. Raises CheckpointUnprovenError."""
    origin = log_origin(latest.epoch)
    try:
        tree = CompactRange(latest.size, [bytes.fromhex(one) for one in latest.compact_range])
        is_whole = bytes(latest.root) == tree.root()
        is_noted = signed_note.note_text(latest.note.encode("utf-8")) == signed_note.Checkpoint(origin, latest.size, tree.root()).to_text()
    except (TypeError, ValueError, ProofRangeError, VerificationError):
        is_whole = is_noted = False
    if not (is_whole and is_noted and (_is_signed_by_any(latest, origin, keys) or _is_vouched_for(latest, origin, keys[0]))):
        raise CheckpointUnprovenError(
            f"Expected the newest checkpoint, over {latest.size} leaves of {origin}, with its tree and a signature by the coordinator's "
            "key; found something else. Nothing enters the log. If the key was changed, set NEXA_COORDINATOR_PREVIOUS_KEY_FILE to the "
            "one before. If that one is lost, see with manage.py ledger_verify whether the rest agrees, and begin an epoch: manage.py "
            "ledger_epoch_begin --reason TEXT. Else somebody has changed the database: restore it from a backup."
        )
    return tree


def _is_signed_by_any(checkpoint: Checkpoint, origin: str, keys: list[PrivateKey]) -> bool:
    for key in keys:
        with suppress(VerificationError):
            signed_note.note_open(checkpoint.note.encode("utf-8"), name=origin, key=key.public)
            return True
    return False


def _is_vouched_for(checkpoint: Checkpoint, origin: str, key: PrivateKey) -> bool:
    """Where the key has changed: it is what was published, or the newest epoch's statement by this key continues it."""
    if checkpoint.note == published_note(epoch=checkpoint.epoch):
        return True
    newest = Epoch.objects.order_by("-number").first()
    if newest is None:
        return False
    try:
        statement = epoch_open(json.loads(bytes(newest.envelope)), key=key.public)
    except VerificationError:
        return False
    return statement.continues == ContinuedLog(origin=origin, size=checkpoint.size, root=base64_encode(bytes(checkpoint.root)))


def _signing_keys() -> list[PrivateKey]:
    """The present key first."""
    previous = coordinator_previous_key()
    return [coordinator_private_key(), *([previous] if previous else [])]


def _is_signed(checkpoint: Checkpoint, epoch: int, keys: list[PrivateKey]) -> bool:
    """Whether it is one of this epoch, by all of these keys."""
    try:
        for key in keys:
            signed_note.note_open(checkpoint.note.encode("utf-8"), name=log_origin(epoch), key=key.public)
    except KeyWrongError:
        return False
    return True


def _checkpoint_sign(tree: CompactRange, epoch: int, keys: list[PrivateKey]) -> Checkpoint:
    origin = log_origin(epoch)
    text = signed_note.Checkpoint(origin, tree.size, tree.root()).to_text()
    return Checkpoint.objects.create(
        epoch=epoch,
        size=tree.size,
        root=tree.root(),
        compact_range=[one.hex() for one in tree.hashes],
        note=signed_note.note_sign(text, origin, *keys).decode("utf-8"),
    )
