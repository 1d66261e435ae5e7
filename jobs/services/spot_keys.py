"""The life of the keys that draw `spot` jobs: made ahead, published by their digest, used, revealed.

1. A key is made before it is needed, and its digest goes into the ledger's log in the same transaction.
2. It chooses only once a signed checkpoint covers that digest, so it was settled before any job was there to be chosen for.
3. It ends. When nothing it has chosen for is open any more, the key itself goes into the log: now everybody can repeat its draws, and
   nobody foresees one. A claim that is just drawing holds a lock on the key; the reveal waits for it.
4. The secret is in its column and, in the end, in the log; nowhere between.

Two runs at once may make two keys. Nothing is wrong with that.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction

from jobs.models import Job, SpotKey
from jobs.states import JOB_TERMINAL
from ledger.checkpoints import checkpoint_latest
from ledger.items import spot_commitment_log, spot_key_log
from ledger.models import LogLeaf

SECRET_BYTES: Final = 32

AHEAD: Final = 0.25
"""The next key is made when this part of the newest one's time is left."""


def spot_keys_tend(*, now: datetime) -> None:
    """Makes, publishes and reveals what is due. Idempotent."""
    _key_make(now)
    _keys_publish(now)
    for key in list(SpotKey.objects.filter(ends_at__lte=now, revealed_at=None).order_by("ends_at")):
        _key_reveal(key, now)


def _key_make(now: datetime) -> None:
    lifetime = timedelta(seconds=settings.NEXA_SPOT_KEY_SECONDS)
    newest = SpotKey.objects.order_by("-ends_at").values_list("ends_at", flat=True).first()
    if newest is not None and newest > now + AHEAD * lifetime:
        return
    with transaction.atomic():
        begins = now if newest is None else max(now, newest)
        key = SpotKey.objects.create(secret=secrets.token_bytes(SECRET_BYTES), made_at=now, ends_at=begins + lifetime)
        spot_commitment_log(spot_key_id=key.pk, secret=bytes(key.secret))


def _keys_publish(now: datetime) -> None:
    keys = {f"spot_commitment:{key_id}": key_id for key_id in SpotKey.objects.filter(published_at=None).values_list("pk", flat=True)}
    checkpoint = checkpoint_latest() if keys else None
    if checkpoint is None:
        return
    covered = LogLeaf.objects.filter(item__key__in=keys, index__lt=checkpoint.size).values_list("item__key", flat=True)
    SpotKey.objects.filter(pk__in=[keys[name] for name in covered], published_at=None).update(published_at=now)


def _key_reveal(key: SpotKey, now: datetime) -> None:
    with transaction.atomic():
        locked = SpotKey.objects.select_for_update().get(pk=key.pk)
        if locked.revealed_at is not None or Job.objects.filter(spot_key=locked).exclude(state__in=JOB_TERMINAL).exists():
            return
        spot_key_log(spot_key_id=locked.pk, secret=bytes(locked.secret))
        locked.revealed_at = now
        locked.save(update_fields=["revealed_at"])
