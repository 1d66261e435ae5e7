"""The chain of the coordinator's keys: each signed its successor (workers/protocol/succession.py). Public, append-only."""

from __future__ import annotations

import json

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from ledger.models import CoordinatorSuccession
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.joining import PredecessorKey
from workers.protocol.succession import SUCCESSIONS_MAX, Succession, succession_sign


class SuccessionRefusedError(Exception):
    """The chain can't go on like this; the message is for the operator."""


def predecessors_of(key: PublicKey) -> tuple[PredecessorKey, ...]:
    """The keys that led to `key`, oldest first; `()` for a first key, and for one that was never on the chain."""
    found: list[PredecessorKey] = []
    for row in CoordinatorSuccession.objects.order_by("pk"):
        found.append(PredecessorKey(public_key=PublicKey(bytes(row.public_key)).to_base64(), succession=json.loads(bytes(row.envelope))))
        if row.successor_key_id == key.key_id:
            return tuple(found)
    return ()


def succession_record(*, key: PrivateKey, successor: PublicKey) -> CoordinatorSuccession:
    """Signs with `key` that `successor` follows it, and puts that at the end of the chain. The same again changes nothing.

    Raises SuccessionRefusedError: `key` is not the end of the chain, or has another successor, or the successor was a key before.
    """
    existing = CoordinatorSuccession.objects.filter(key_id=key.public.key_id).first()
    if existing is not None:
        if existing.successor_key_id == successor.key_id:
            return existing
        raise SuccessionRefusedError(f"The key {key.public.key_id} has a successor, {existing.successor_key_id}; a key has one.")
    last = CoordinatorSuccession.objects.order_by("-pk").first()
    if last is not None and last.successor_key_id != key.public.key_id:
        raise SuccessionRefusedError(
            f"The newest key of the chain is {last.successor_key_id}; found {key.public.key_id}. Sign with that one."
        )
    if CoordinatorSuccession.objects.count() >= SUCCESSIONS_MAX:
        raise SuccessionRefusedError(f"The chain has {SUCCESSIONS_MAX} successions, as many as a host walks.")
    if successor == key.public or CoordinatorSuccession.objects.filter(key_id=successor.key_id).exists():
        raise SuccessionRefusedError(f"The key {successor.key_id} was the coordinator's before; a successor is a new key.")
    statement = Succession(origin=settings.NEXA_ORIGIN, successor=successor.to_base64(), issued_at=timezone.now())
    try:
        with transaction.atomic():
            return CoordinatorSuccession.objects.create(
                key_id=key.public.key_id,
                public_key=key.public.raw,
                successor_key_id=successor.key_id,
                envelope=succession_sign(statement, key=key),
            )
    except IntegrityError as error:
        raise SuccessionRefusedError("Another succession was recorded at this moment; look at the chain and try again.") from error
