"""The transfer: credits that somebody gives to another person.

1. It goes to an account, by the id that stands in the public ledger: whose it is is told only of people who show themselves.
2. Each `transfer_id` is done once: a form that is sent twice gives once.
3. Nobody can undo it, not even a moderator. Who gets it is told.
4. Each transfer is a leaf of the log for good: so there is a least amount, and a number a day.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from ledger.models import Account, Entry
from ledger.movements import transfer_key
from ledger.selectors import transfers_since
from ledger.services import account_of, transfer_post
from people.errors import TransferAmountInvalidError, TransferReceiverUnknownError, TransferSentBeforeError, TransfersTooManyError
from people.models import User
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write

MICRO: Final = 1_000_000
AMOUNT_LEAST_MICRO: Final = 10_000
A_DAY: Final = 20


def receiver_of(*, account_id: UUID, sender: User) -> Account:
    """The account that `sender` may give to, its owner fetched along. Raises TransferReceiverUnknownError."""
    found = Account.objects.select_related("owner").filter(pk=account_id, owner__is_active=True).exclude(owner=sender).first()
    if found is None:
        raise TransferReceiverUnknownError(
            f"Expected the account of another person who is here; {account_id} is none. Ask them for its id: it stands on their page Bank."
        )
    return found


@transaction.atomic
def credits_send(*, sender: User, account_id: UUID, amount_micro: int, transfer_id: UUID) -> Entry:
    """Gives `amount_micro` from the account of `sender` to another, and tells its owner. The same again changes nothing.

    Raises TransferReceiverUnknownError, TransferAmountInvalidError, TransferSentBeforeError, TransfersTooManyError,
    CreditsInsufficientError.
    """
    receiver = receiver_of(account_id=account_id, sender=sender)
    User.objects.select_for_update(no_key=True).get(pk=sender.pk)  # one transfer at a time, so that the bound holds
    source = account_of(user=sender)
    if before := Entry.objects.filter(idempotency_key=transfer_key(source.pk, transfer_id)).first():
        if not before.postings.filter(account=receiver, amount_micro=amount_micro).exists():
            raise TransferSentBeforeError("This form was sent before, with another amount or account. Your statement says what it gave.")
        return before
    if amount_micro < AMOUNT_LEAST_MICRO:
        raise TransferAmountInvalidError(f"Expected {AMOUNT_LEAST_MICRO / MICRO:g} credits or more, found {amount_micro / MICRO:f}.")
    if transfers_since(account=source, since=timezone.now() - timedelta(days=1)) >= A_DAY:
        raise TransfersTooManyError(f"Expected at most {A_DAY} transfers in 24 hours: each stays in the public log. Try again tomorrow.")
    entry = transfer_post(source=source, target=receiver, amount_micro=amount_micro, transfer_id=transfer_id)
    _receiver_tell(entry, source, receiver, amount_micro)
    return entry


def _receiver_tell(entry: Entry, source: Account, receiver: Account, amount_micro: int) -> None:
    if receiver.owner_id is None:
        return
    subject = f"{amount_micro / MICRO:,.6f}".rstrip("0").rstrip(".") + " credits came to your account"
    text = f"From the account {source.pk}."
    data = {"entry": str(entry.pk), "from": str(source.pk), "amount_micro": str(amount_micro)}
    about, path = NotificationKind.CREDITS_RECEIVED, reverse("bank-page")
    notifications_write([Draft(receiver.owner_id, about, f"transfer:{entry.pk}", subject, path, text, data)])
