"""Ledger entries and leaves for tests."""

from __future__ import annotations

import itertools
import uuid

from django.utils import timezone

from ledger.models import Account, AccountKind, Entry, LogLeaf
from ledger.services import Payment, grant_post, treasury_account

_numbers = itertools.count(1)


def account_make(balance_micro: int = 0) -> Account:
    """A person's account without a person, with this much granted."""
    account = Account.objects.create(kind=AccountKind.PERSON)
    if balance_micro:
        grant_post(to=account, amount_micro=balance_micro, reason="test", idempotency_key=f"made:{account.pk}")
    return account


def payment_make(account: Account, amount_micro: int = 1) -> Payment:
    """A payment for a replica of its own."""
    digest = "sha256:" + "00" * 32
    return Payment(account=account, replica_id=uuid.uuid4(), node_key_id=digest, receipt_digest=digest, amount_micro=amount_micro)


def entries_make(count: int) -> list[Entry]:
    """`count` grants of a millionth, each its own entry; not in the log yet."""
    account = account_make()
    treasury_account()
    return [grant_post(to=account, amount_micro=1, reason="test", idempotency_key=f"entry:{next(_numbers)}") for _ in range(count)]


def leaves_insert(count: int, *, prefix: str = "leaf") -> list[bytes]:
    """`count` leaves straight into the log's table, to have many in little time: their data. Their entries have no postings, so the
    caller's transaction must not be committed."""
    start = LogLeaf.objects.count()
    entries = Entry.objects.bulk_create(
        Entry(kind="grant", idempotency_key=f"{prefix}:{uuid.uuid4()}", created_at=timezone.now()) for _ in range(count)
    )
    data = [f'{{"leaf":"{prefix}-{start + place}"}}'.encode() for place in range(count)]
    LogLeaf.objects.bulk_create(LogLeaf(index=start + place, entry=entry, data=data[place]) for place, entry in enumerate(entries))
    return data
