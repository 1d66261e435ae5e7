"""Epochs of the log: after a restore it goes on under another name (workers/protocol/epochs.py)."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from django.utils import timezone

from ledger.checkpoints import checkpoint_latest, log_epoch, log_origin, sequencer_lock
from ledger.coordinator_key import coordinator_private_key
from ledger.models import Epoch
from ledger.publication import published_epoch, published_note
from workers.protocol import epochs
from workers.protocol.merkle import EMPTY_ROOT
from workers.protocol.strict_base64 import base64_encode


def epoch_begin(*, reason: str) -> Epoch:
    """Signs and records that the log goes on under another name from here, with the leaves that the database has.

    Names the newest checkpoint that was published before, if its file is there. The next checkpoint is one of the new epoch. Raises
    ValueError for a reason that is empty or too long, CoordinatorKeyMissingError, PublishedUnreadableError.
    """
    if not 1 <= len(reason) <= epochs.REASON_CHARACTERS_MAX:
        raise ValueError(f"Expected a reason of 1 to {epochs.REASON_CHARACTERS_MAX} characters; found {len(reason)}.")
    key = coordinator_private_key()
    with sequencer_lock(), transaction.atomic(durable=True):
        published = published_epoch()
        # Beyond what was published too: an epoch that the backup did not have was begun all the same.
        number = max(log_epoch(), published) + 1
        latest = checkpoint_latest()
        statement = epochs.Epoch(
            number=number,
            origin=log_origin(number),
            continues=epochs.ContinuedLog(
                origin=log_origin(),
                size=latest.size if latest else 0,
                root=base64_encode(bytes(latest.root) if latest else EMPTY_ROOT),
            ),
            published=published_note(epoch=published) if published else None,
            reason=reason,
            began_at=timezone.now(),
        )
        return Epoch.objects.create(number=number, origin=statement.origin, envelope=epochs.epoch_sign(statement, key=key))


def epoch_documents() -> list[dict[str, Any]]:
    """The epochs after the first, in order: {number, origin, envelope}."""
    rows = Epoch.objects.order_by("number")
    return [{"number": row.number, "origin": row.origin, "envelope": json.loads(bytes(row.envelope))} for row in rows]
