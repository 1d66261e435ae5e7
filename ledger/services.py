"""Every movement of credits. Each is one balanced entry, idempotent by key, written inside the caller's transaction.

The database enforces what this file promises: postings of an entry sum to zero, only the treasury is negative, nothing is changed or
removed (migration 0002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from ledger.models import Account, AccountKind, Entry, EntryKind, Posting
from workers.protocol.problems import ProblemError


class CreditsInsufficientError(ProblemError):
    """The account does not hold what the movement needs."""

    code = "credits_insufficient"
    status = 402
    title = "Not enough credits"


class EntryConflictError(Exception):
    """The idempotency key was used for another movement: our bug, never the caller's fault."""


@dataclass(frozen=True)
class Payment:
    """What one accepted receipt earns."""

    account: Account
    replica_id: UUID
    node_key_id: str
    receipt_digest: str
    amount_micro: int


def account_of(*, user: AbstractBaseUser) -> Account:
    """The account of a person, made on first use."""
    return Account.objects.get_or_create(owner=user, defaults={"kind": AccountKind.PERSON})[0]


def treasury_account() -> Account:
    """The account that issues credits; its debt is all that was ever granted."""
    return Account.objects.get_or_create(kind=AccountKind.TREASURY)[0]


def escrow_account() -> Account:
    """Where reservations wait for their job's conclusion."""
    return Account.objects.get_or_create(kind=AccountKind.ESCROW)[0]


def grant_post(
    *, to: Account, amount_micro: int, reason: str, idempotency_key: str, evidence: Mapping[str, Any] | None = None
) -> Entry:
    """Credits from the treasury, with a public reason."""
    postings = {treasury_account(): -amount_micro, to: amount_micro}
    return _entry_post(EntryKind.GRANT, f"grant:{idempotency_key}", {"reason": reason, **(evidence or {})}, postings)


def reservation_post(*, account: Account, job_id: UUID, amount_micro: int) -> Entry:
    """Sets a job's worst case aside. Raises CreditsInsufficientError, naming balance and need in credits."""
    balance = Account.objects.select_for_update().get(pk=account.pk).balance_micro
    if balance < amount_micro:
        raise CreditsInsufficientError(
            f"This job reserves up to {amount_micro / 1e6:.6f} credits; your balance is {balance / 1e6:.6f}. "
            "Earn some with a node, ask a moderator for a grant, or lower estimated_flops, copies or credit_rate.",
            needed_micro=str(amount_micro),
            balance_micro=str(balance),
        )
    postings = {account: -amount_micro, escrow_account(): amount_micro}
    return _entry_post(EntryKind.RESERVATION, f"reservation:{job_id}", {"job": str(job_id)}, postings)


def payment_post(*, job_id: UUID, payments: Sequence[Payment], formula: Mapping[str, str]) -> list[Entry]:
    """Pays accepted receipts from the escrow, an entry each. `formula` holds its inputs as strings, so that anyone can recompute the amount."""
    escrow = escrow_account()
    return [
        _entry_post(
            EntryKind.PAYMENT,
            f"payment:{payment.replica_id}",
            {
                "job": str(job_id),
                "replica": str(payment.replica_id),
                "receipt": payment.receipt_digest,
                "node_key": payment.node_key_id,
                "formula": dict(formula),
            },
            {escrow: -payment.amount_micro, payment.account: payment.amount_micro},
        )
        for payment in payments
    ]


def refund_post(*, account: Account, job_id: UUID, amount_micro: int) -> Entry | None:
    """Gives back what is left of a job's reservation; None when nothing is."""
    if amount_micro == 0:
        return None
    postings = {escrow_account(): -amount_micro, account: amount_micro}
    return _entry_post(EntryKind.REFUND, f"refund:{job_id}", {"job": str(job_id)}, postings)


def reversal_post(*, entry: Entry, reason: str) -> Entry:
    """Undoes an entry by its opposite, which stands beside it for ever. Raises CreditsInsufficientError if the credits are spent."""
    postings = {posting.account: -posting.amount_micro for posting in entry.postings.select_related("account")}
    for account in Account.objects.select_for_update().filter(pk__in=[a.pk for a in postings]).order_by("pk"):
        if account.kind != AccountKind.TREASURY and account.balance_micro + postings[account] < 0:
            raise CreditsInsufficientError(
                f"The reversal of entry {entry.pk} takes {-postings[account] / 1e6:.6f} credits from an account "
                f"that holds {account.balance_micro / 1e6:.6f}."
            )
    return _entry_post(EntryKind.REVERSAL, f"reversal:{entry.pk}", {"entry": str(entry.pk), "reason": reason}, postings)


def start_grant_post(*, user: AbstractBaseUser) -> Entry | None:
    """What every approved researcher starts with, once; None where the operator grants nothing."""
    if settings.NEXA_START_GRANT_MICRO == 0:
        return None
    account = account_of(user=user)
    return grant_post(
        to=account, amount_micro=settings.NEXA_START_GRANT_MICRO, reason="start grant", idempotency_key=f"start:{account.pk}"
    )


def _entry_post(kind: EntryKind, key: str, evidence: Mapping[str, Any], postings: Mapping[Account, int]) -> Entry:
    """Writes an entry, or returns the one that has `key`. The trigger on postings moves the balances."""
    if sum(postings.values()) != 0 or any(amount == 0 for amount in postings.values()):
        raise ValueError(f"{key}: expected non-zero postings that sum to zero; found {list(postings.values())}")
    with transaction.atomic():
        entry, created = Entry.objects.get_or_create(
            idempotency_key=key, defaults={"kind": kind, "evidence": dict(evidence), "created_at": timezone.now()}
        )
        if created:
            # In the order of the account ids, so that two entries over the same accounts never deadlock.
            Posting.objects.bulk_create(
                Posting(entry=entry, account=account, amount_micro=amount)
                for account, amount in sorted(postings.items(), key=lambda item: str(item[0].pk))
            )
        elif entry.kind != kind or {p.account_id: p.amount_micro for p in entry.postings.all()} != {a.pk: m for a, m in postings.items()}:
            raise EntryConflictError(f"{key} was posted before with another content: entry {entry.pk}")
    return entry
