"""Ledger entries and leaves for tests."""

from __future__ import annotations

import itertools
import uuid

from django.db import connection
from django.utils import timezone

from ledger.models import Account, AccountKind, Entry, LogItem, LogLeaf
from ledger.movements import Movement, movements_post
from ledger.services import Payment, grant_of, grant_post
from workers.protocol.merkle import leaf_hash

_numbers = itertools.count(1)


def account_make(balance_micro: int = 0) -> Account:
    """A person's account without a person, with this much granted."""
    account = Account.objects.create(kind=AccountKind.PERSON)
    if balance_micro:
        grant_post(to=account, amount_micro=balance_micro, reason="test", idempotency_key=f"made:{account.pk}")
    return account


def entry_post(movement: Movement | None) -> Entry:
    """Posts one movement: its entry, also where it was written before."""
    assert movement is not None
    movements_post([movement])
    return Entry.objects.get(idempotency_key=movement.key)


def payment_make(account: Account, amount_micro: int = 1) -> Payment:
    """A payment for a replica of its own."""
    digest = "sha256:" + "00" * 32
    return Payment(account=account, replica_id=uuid.uuid4(), node_key_id=digest, receipt_digest=digest, amount_micro=amount_micro)


def entries_make(count: int) -> list[Entry]:
    """`count` grants of a millionth, each its own entry; not in the log yet."""
    account = account_make()
    movements = [grant_of(to=account, amount_micro=1, reason="test", idempotency_key=f"entry:{next(_numbers)}") for _ in range(count)]
    movements_post(movements)
    return list(Entry.objects.filter(idempotency_key__in=[one.key for one in movements]).order_by("pk"))


def leaves_insert(count: int, *, prefix: str = "leaf") -> list[bytes]:
    """`count` leaves into the log's tables, of a kind that is none, to have many in little time: their data."""
    start = LogLeaf.objects.count()
    data = [f'{{"leaf":"{prefix}-{start + place}"}}'.encode() for place in range(count)]
    items = LogItem.objects.bulk_create(
        LogItem(kind="test", key=f"{prefix}:{uuid.uuid4()}", data=one, created_at=timezone.now()) for one in data
    )
    LogLeaf.objects.bulk_create(
        LogLeaf(index=start + place, item=item, hash=leaf_hash(one)) for place, (item, one) in enumerate(zip(items, data, strict=True))
    )
    return data


def items_insert(count: int) -> None:
    """`count` items of a kind that is none, waiting for the log: many, in little time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_logitem (kind, key, data, created_at)"
            " SELECT 'test', 'test:' || gen_random_uuid(), convert_to('{\"test\":\"' || number || '\"}', 'UTF8'), now()"
            " FROM generate_series(1, %s) AS number",
            [count],
        )
