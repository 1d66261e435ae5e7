"""Every movement of credits. Each is one balanced entry, idempotent by key, written inside the caller's transaction.

1. The database enforces what this file promises: postings of an entry sum to zero, only the treasury is negative, nothing is changed or
   removed (migration 0002).
2. Balances are locked in one order, treasury before escrow before people: movements that share an account wait for each other and never
   deadlock, also when a transaction makes several.
3. What enters the log can be written as canonical JSON, within what a leaf may hold: an entry that can't would stop the log for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from ledger.models import Account, AccountKind, Entry, EntryKind, Posting
from workers.protocol.canonical import canonical_json
from workers.protocol.problems import ProblemError

EVIDENCE_BYTES_MAX: Final = 32 * 1024
"""Of an entry's evidence as canonical JSON. A leaf is at most 65,535 bytes (tlog-tiles: two bytes of length)."""

_LOCK_ORDER: Final = {AccountKind.TREASURY: 0, AccountKind.ESCROW: 1, AccountKind.PERSON: 2}


class CreditsInsufficientError(ProblemError):
    """The account does not hold what the movement needs."""

    code = "credits_insufficient"
    status = 402
    title = "Not enough credits"


class EntryConflictError(Exception):
    """The idempotency key was used for another movement: our bug, never the caller's fault."""


class EntryNotReversibleError(Exception):
    """Only grants and payments are undone; reservations end by payment and refund, and what was reversed stays so."""


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
    return Account.objects.get_or_create(owner_id=user.pk, defaults={"kind": AccountKind.PERSON})[0]


def treasury_account() -> Account:
    """The account that issues credits; its debt is all that was ever granted."""
    return Account.objects.get_or_create(kind=AccountKind.TREASURY)[0]


def escrow_account() -> Account:
    """Where reservations wait for their job's conclusion."""
    return Account.objects.get_or_create(kind=AccountKind.ESCROW)[0]


def grant_post(*, to: Account, amount_micro: int, reason: str, idempotency_key: str, evidence: Mapping[str, Any] | None = None) -> Entry:
    """Credits from the treasury, with a public reason. Raises ValueError unless the amount is positive."""
    if amount_micro <= 0:
        raise ValueError(f"expected a grant of more than 0; found {amount_micro}. To take a grant back, reverse its entry.")
    postings = {treasury_account(): -amount_micro, to: amount_micro}
    return _entry_post(EntryKind.GRANT, f"grant:{idempotency_key}", {"reason": reason, **(evidence or {})}, postings)


def reservation_post(*, account: Account, job_id: UUID, amount_micro: int) -> Entry:
    """Sets a job's worst case aside. Raises CreditsInsufficientError, naming balance and need in credits."""
    escrow, key = escrow_account(), f"reservation:{job_id}"
    balance = _balances_lock([escrow, account])[account]
    if balance < amount_micro and not Entry.objects.filter(idempotency_key=key).exists():
        raise CreditsInsufficientError(
            f"This job reserves up to {amount_micro / 1e6:.6f} credits; your balance is {balance / 1e6:.6f}. "
            "Earn some with a node, ask a moderator for a grant, or lower estimated_flops, copies or credit_rate.",
            needed_micro=str(amount_micro),
            balance_micro=str(balance),
        )
    return _entry_post(EntryKind.RESERVATION, key, {"job": str(job_id)}, {account: -amount_micro, escrow: amount_micro})


def payment_post(*, job_id: UUID, payments: Sequence[Payment], formula: Mapping[str, str]) -> list[Entry]:
    """Pays accepted receipts from the escrow, an entry each. `formula`: its inputs as strings, so that anyone can recompute the amount."""
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
    """Undoes a grant (the treasury has it back) or a payment (who reserved has it back), in an entry of its own.

    Idempotent. Raises EntryNotReversibleError for other entries, CreditsInsufficientError if the credits are spent.
    """
    gained = entry.postings.filter(amount_micro__gt=0).select_related("account").first()
    to = _reversal_receiver(entry)
    if gained is None or to is None or to == gained.account:  # the last: a researcher whose own node ran the job
        raise EntryNotReversibleError(f"expected a grant, or a payment to another than who reserved; entry {entry.pk} is a {entry.kind}")
    key = f"reversal:{entry.pk}"
    balance = _balances_lock([gained.account, to])[gained.account]
    if balance < gained.amount_micro and not Entry.objects.filter(idempotency_key=key).exists():
        raise CreditsInsufficientError(
            f"The reversal of entry {entry.pk} takes {gained.amount_micro / 1e6:.6f} credits; the account holds {balance / 1e6:.6f}.",
            needed_micro=str(gained.amount_micro),
            balance_micro=str(balance),
        )
    postings = {gained.account: -gained.amount_micro, to: gained.amount_micro}
    return _entry_post(EntryKind.REVERSAL, key, {"entry": str(entry.pk), "reason": reason}, postings)


def start_grant_post(*, user: AbstractBaseUser) -> Entry | None:
    """What every approved researcher starts with, once; None where the operator grants nothing."""
    if settings.NEXA_START_GRANT_MICRO == 0:
        return None
    account = account_of(user=user)
    return grant_post(to=account, amount_micro=settings.NEXA_START_GRANT_MICRO, reason="start grant", idempotency_key=f"start:{account.pk}")


def _reversal_receiver(entry: Entry) -> Account | None:
    match EntryKind(entry.kind):
        case EntryKind.GRANT:
            return treasury_account()
        case EntryKind.PAYMENT:
            reserved = Posting.objects.filter(entry__idempotency_key=f"reservation:{entry.evidence['job']}", amount_micro__lt=0)
            posting = reserved.select_related("account").first()
            return posting.account if posting else None
        case EntryKind.RESERVATION | EntryKind.REFUND | EntryKind.REVERSAL:
            return None


def _balances_lock(accounts: Sequence[Account]) -> dict[Account, int]:
    """The balances, which stay as they are until the caller's transaction ends. One query an account, so that the order is ours."""
    return {
        account: Account.objects.select_for_update(no_key=True).get(pk=account.pk).balance_micro
        for account in sorted(accounts, key=_lock_key)
    }


def _lock_key(account: Account) -> tuple[int, str]:
    return _LOCK_ORDER[AccountKind(account.kind)], str(account.pk)


def _entry_post(kind: EntryKind, key: str, evidence: Mapping[str, Any], postings: Mapping[Account, int]) -> Entry:
    """Writes an entry, or returns the one that has `key`. The trigger on postings moves the balances."""
    if sum(postings.values()) != 0 or len(postings) < 2 or 0 in postings.values():
        raise ValueError(f"{key}: expected at least two non-zero postings that sum to zero; found {list(postings.values())}")
    _evidence_check(key, evidence)
    with transaction.atomic():
        entry, created = Entry.objects.get_or_create(
            idempotency_key=key, defaults={"kind": kind, "evidence": dict(evidence), "created_at": timezone.now()}
        )
        if created:
            # In the order of the locks: the trigger updates the accounts in the order of the rows.
            Posting.objects.bulk_create(
                Posting(entry=entry, account=account, amount_micro=postings[account]) for account in sorted(postings, key=_lock_key)
            )
        elif entry.kind != kind or {p.account_id: p.amount_micro for p in entry.postings.all()} != {a.pk: m for a, m in postings.items()}:
            raise EntryConflictError(f"{key} was posted before with another content: entry {entry.pk}")
    return entry


def _evidence_check(key: str, evidence: Mapping[str, Any]) -> None:
    """Strings only, by name and at most one level deep: what PostgreSQL gives back is then what was written. Raises ValueError."""
    values = [inner for value in evidence.values() for inner in (value.values() if isinstance(value, Mapping) else [value])]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key}: expected evidence made of strings, found {evidence!r}")
    if (size := len(canonical_json(dict(evidence)))) > EVIDENCE_BYTES_MAX:
        raise ValueError(f"{key}: expected at most {EVIDENCE_BYTES_MAX} bytes of evidence, found {size}")
