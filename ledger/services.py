"""Accounts, and every kind of movement: built by `*_of`, posted by `movements_post`; what comes alone, by `*_post`.

A movement is one balanced entry, idempotent by key, written inside the caller's transaction (ledger/movements.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.utils.module_loading import import_string

from ledger.models import Account, AccountKind, Entry, EntryKind, Posting
from ledger.movements import Movement, movements_post, reversal_key, transfer_key
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY

_ACCOUNTS_MAKE: Final = """INSERT INTO ledger_account (id, kind, owner_id, balance_micro, created_at)
    SELECT id, 'person', owner, 0, now() FROM unnest(%s::uuid[], %s::bigint[]) AS given (id, owner)
    ON CONFLICT (owner_id) DO NOTHING RETURNING id, owner_id, created_at"""


class EntryNotReversibleError(Exception):
    """Only grants and payments are undone: reservations end by payment and refund, what was given away or reversed stays so."""


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
    return accounts_of([user.pk])[user.pk]


def accounts_of(user_ids: Collection[int]) -> dict[int, Account]:
    """The accounts of people by their ids, made on first use: two statements at most (a third where another made one at that moment)."""
    found = _accounts_found(user_ids)
    missing = sorted(set(user_ids) - found.keys())
    if missing:
        with connection.cursor() as cursor:
            cursor.execute(_ACCOUNTS_MAKE, [[uuid4() for _ in missing], missing])
            for pk, owner, created_at in cursor.fetchall():
                found[owner] = Account(id=pk, kind=AccountKind.PERSON, owner_id=owner, balance_micro=0, created_at=created_at)
                found[owner]._state.adding = False
    if made_by_others := set(missing) - found.keys():
        found |= _accounts_found(made_by_others)
    return found


def treasury_account() -> Account:
    """The account that issues credits; its debt is all that was ever granted."""
    return Account.objects.get(pk=ACCOUNT_TREASURY)


def escrow_account() -> Account:
    """Where reservations wait for their job's conclusion."""
    return Account.objects.get(pk=ACCOUNT_ESCROW)


# --- what moves credits ------------------------------------------------------------------------------------------------


def grant_of(*, to: Account, amount_micro: int, reason: str, idempotency_key: str, evidence: Mapping[str, Any] | None = None) -> Movement:
    """Credits from the treasury, with a public reason. Raises ValueError unless the amount is positive."""
    if amount_micro <= 0:
        raise ValueError(f"expected a grant of more than 0; found {amount_micro}. To take a grant back, reverse its entry.")
    postings = {ACCOUNT_TREASURY: -amount_micro, to.pk: amount_micro}
    return Movement(EntryKind.GRANT, f"grant:{idempotency_key}", {"reason": reason, **(evidence or {})}, postings)


def reservation_of(*, account: Account, job_id: UUID, amount_micro: int) -> Movement:
    """A job's worst case, set aside."""
    postings = {account.pk: -amount_micro, ACCOUNT_ESCROW: amount_micro}
    return Movement(EntryKind.RESERVATION, f"reservation:{job_id}", {"job": str(job_id)}, postings)


def payment_of(*, job_id: UUID, payment: Payment, formula: Mapping[str, str]) -> Movement:
    """Pays an accepted receipt from the escrow. `formula`: its inputs as strings, so that anyone can recompute the amount."""
    evidence = {
        "job": str(job_id),
        "replica": str(payment.replica_id),
        "receipt": payment.receipt_digest,
        "node_key": payment.node_key_id,
        "formula": dict(formula),
    }
    postings = {ACCOUNT_ESCROW: -payment.amount_micro, payment.account.pk: payment.amount_micro}
    return Movement(EntryKind.PAYMENT, f"payment:{payment.replica_id}", evidence, postings)


def refund_of(*, account: Account, job_id: UUID, amount_micro: int) -> Movement | None:
    """Gives back what is left of a job's reservation; None when nothing is."""
    if amount_micro == 0:
        return None
    postings = {ACCOUNT_ESCROW: -amount_micro, account.pk: amount_micro}
    return Movement(EntryKind.REFUND, f"refund:{job_id}", {"job": str(job_id)}, postings)


def transfer_of(*, source: Account, target: Account, amount_micro: int, transfer_id: UUID) -> Movement:
    """Credits that the owner of `source` gives to another person: once for each `transfer_id` of theirs.

    Raises ValueError unless the amount is positive, and for one account, treasury or escrow.
    """
    if amount_micro <= 0 or source == target or {source.pk, target.pk} & {ACCOUNT_TREASURY, ACCOUNT_ESCROW}:
        raise ValueError(f"expected more than 0 from one person to another; found {amount_micro} from {source} to {target}")
    postings = {source.pk: -amount_micro, target.pk: amount_micro}
    return Movement(EntryKind.TRANSFER, transfer_key(source.pk, transfer_id), {}, postings)


def reversal_of(*, entry: Entry, reason: str) -> Movement:
    """Undoes a grant (the treasury has it back) or a payment (who reserved has it back), in an entry of its own.

    Raises EntryNotReversibleError for other entries.
    """
    gained = entry.postings.filter(amount_micro__gt=0).first()
    to = _reversal_receiver(entry)
    if gained is None or to is None or to == gained.account_id:  # the last: a researcher whose own node ran the job
        raise EntryNotReversibleError(f"expected a grant, or a payment to another than who reserved; entry {entry.pk} is a {entry.kind}")
    postings = {gained.account_id: -gained.amount_micro, to: gained.amount_micro}
    return Movement(EntryKind.REVERSAL, reversal_key(entry.pk), {"entry": str(entry.pk), "reason": reason}, postings)


def grant_post(*, to: Account, amount_micro: int, reason: str, idempotency_key: str, evidence: Mapping[str, Any] | None = None) -> Entry:
    """Posts a grant. Raises as grant_of and movements_post."""
    return _posted(grant_of(to=to, amount_micro=amount_micro, reason=reason, idempotency_key=idempotency_key, evidence=evidence))


def transfer_post(*, source: Account, target: Account, amount_micro: int, transfer_id: UUID) -> Entry:
    """Posts a transfer. Raises as transfer_of and movements_post: CreditsInsufficientError; EntryConflictError for an id that was used."""
    return _posted(transfer_of(source=source, target=target, amount_micro=amount_micro, transfer_id=transfer_id))


@transaction.atomic
def reversal_post(*, entry: Entry, reason: str) -> Entry:
    """Posts a reversal, with what follows from a payment's (settings.NEXA_PAYMENT_REVERSED), once.

    Raises as reversal_of and movements_post: CreditsInsufficientError if the credits are spent.
    """
    movement = reversal_of(entry=entry, reason=reason)
    if movements_post([movement]) and entry.kind == EntryKind.PAYMENT:
        import_string(settings.NEXA_PAYMENT_REVERSED)(entry=entry)
    return Entry.objects.get(idempotency_key=movement.key)


def start_grant_post(*, user: AbstractBaseUser) -> Entry | None:
    """What every approved researcher starts with, once; None where the operator grants nothing."""
    if settings.NEXA_START_GRANT_MICRO == 0:
        return None
    account = account_of(user=user)
    return grant_post(to=account, amount_micro=settings.NEXA_START_GRANT_MICRO, reason="start grant", idempotency_key=f"start:{account.pk}")


def _posted(movement: Movement) -> Entry:
    movements_post([movement])
    return Entry.objects.get(idempotency_key=movement.key)


def _reversal_receiver(entry: Entry) -> UUID | None:
    match EntryKind(entry.kind):
        case EntryKind.GRANT:
            return ACCOUNT_TREASURY
        case EntryKind.PAYMENT:
            reserved = Posting.objects.filter(entry__idempotency_key=f"reservation:{entry.evidence['job']}", amount_micro__lt=0)
            return reserved.values_list("account_id", flat=True).first()
        case EntryKind.RESERVATION | EntryKind.REFUND | EntryKind.TRANSFER | EntryKind.REVERSAL:
            return None


def _accounts_found(user_ids: Collection[int]) -> dict[int, Account]:
    return {account.owner_id: account for account in Account.objects.filter(owner_id__in=list(user_ids)) if account.owner_id is not None}
