"""Mails notifications to those who want that.

1. The first goes at once. What comes within TOGETHER_FOR of a mail about the same kind to the same person waits, and goes in one mail: a
   thousand jobs that end one after another are no thousand mails.
2. A mail server that is away loses nothing: it is asked again each minute. What it refuses is tried again, later each time. What has not
   gone after GIVEN_UP_AFTER is given up; it stands in the portal.
3. The address is the one that the person has when the mail goes. Nobody whose account is closed is mailed.
4. A run is in a thread of its own (beside.py). One that is cut off between handing a mail in and noting it sends it twice.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from smtplib import SMTPDataError, SMTPRecipientsRefused
from typing import Any, Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.utils import timezone

from people.notifications.models import MailDelivery, Notification, NotificationKind

log = logging.getLogger(__name__)

TOGETHER_FOR: Final = timedelta(minutes=10)
TOGETHER_MAX: Final = 200
"""Notifications in one mail; what is beyond goes in the next."""
LISTED: Final = 50
"""Of these, how many are named."""
GIVEN_UP_AFTER: Final = timedelta(days=3)
AWAY_RETRY: Final = timedelta(minutes=1)
REFUSED_RETRY: Final = timedelta(minutes=2)
"""Four times as long after each further refusal, up to REFUSED_RETRY_MAX."""
REFUSED_RETRY_MAX: Final = timedelta(hours=6)
CLAIMED_FOR: Final = timedelta(minutes=2)
RUN_SECONDS: Final = 30.0
"""After so long a run begins no further mail."""


def mails_send(*, now: datetime | None = None) -> int:
    """Sends what is due, and returns how many mails the server took. Each is claimed first: another process sends none of them too."""
    give_up_at = time.monotonic() + RUN_SECONDS
    sent = 0
    connection = get_connection()
    try:
        while time.monotonic() < give_up_at and (claimed := _claim(now or timezone.now())):
            try:
                sent += _send(claimed, connection)
            except (SMTPRecipientsRefused, SMTPDataError, ValueError) as error:  # ValueError: an address that is none
                log.warning("the mail server refused a mail of %d notifications: %s", len(claimed), type(error).__name__)
                _refused(claimed, now or timezone.now())
            except OSError as error:  # as all of smtplib's are; the next mail would fare no better
                log.warning("mails wait, the mail server is away: %s", error)
                _put_off(claimed, (now or timezone.now()) + AWAY_RETRY)
                break
    finally:
        with contextlib.suppress(OSError):
            connection.close()
    return sent


@transaction.atomic
def _claim(now: datetime) -> list[MailDelivery]:
    """What is due the longest, with all that is due to the same person about the same kind. Empty: nothing is due."""
    due = MailDelivery.objects.filter(next_at__lte=now).select_for_update(of=("self",), skip_locked=True)
    while first := due.order_by("next_at").first():
        together = list(
            due.filter(owner=first.owner_id, kind=first.kind).select_related("notification", "owner").order_by("pk")[:TOGETHER_MAX]
        )
        last = _last_sent_at(first)
        if last is None or last <= now - TOGETHER_FOR:
            _put_off(together, now + CLAIMED_FOR)
            return together
        _put_off(together, last + TOGETHER_FOR)
    return []


def _last_sent_at(like: MailDelivery) -> datetime | None:
    sent = MailDelivery.objects.filter(owner=like.owner_id, kind=like.kind, sent_at__isnull=False)
    return sent.order_by("-sent_at").values_list("sent_at", flat=True).first()


def _put_off(mails: Sequence[MailDelivery], until: datetime) -> None:
    """Tries them again then; those that would be too old then, never."""
    for mail in mails:
        mail.next_at = until if until < mail.notification.created_at + GIVEN_UP_AFTER else None
    MailDelivery.objects.bulk_update(mails, ["next_at", "refusals"])


def _refused(mails: Sequence[MailDelivery], now: datetime) -> None:
    """Put off by its answer, which says nothing about other mails: the longer, the more often it was given."""
    for mail in mails:
        mail.refusals += 1
    often = max(mail.refusals for mail in mails)
    _put_off(mails, now + min(REFUSED_RETRY * 4 ** min(often - 1, 8), REFUSED_RETRY_MAX))


def _send(mails: Sequence[MailDelivery], connection: Any) -> int:
    """Hands one mail in and notes it; returns 1, or 0 where there is nobody to mail. Raises as the backend."""
    owner = mails[0].owner
    is_reachable = owner.is_active and bool(owner.email)
    if is_reachable:
        connection.open()
        mail_of([mail.notification for mail in mails], address=owner.email, connection=connection).send()
    sent_at = timezone.now() if is_reachable else None
    MailDelivery.objects.filter(pk__in=[mail.pk for mail in mails]).update(next_at=None, sent_at=sent_at)
    return int(is_reachable)


def mail_of(told: Sequence[Notification], *, address: str, connection: Any = None) -> EmailMessage:
    """The mail that tells `told`, at least one, all of one kind."""
    first = told[0]
    if len(told) == 1:
        subject, paragraphs = first.subject, [first.text, _address(first.path)]
    else:
        subject = f"{len(told)} notifications about {NotificationKind(first.kind).label}"
        paragraphs = [f"{one.subject}\n{_address(one.path)}" for one in told[:LISTED]]
        if len(told) > LISTED:
            paragraphs.append(f"And {len(told) - LISTED} more: {_address('/notifications/')}")
    paragraphs.append(f"-- \nWhat you are told, and how: {_address('/notifications/settings/')}")
    return EmailMessage(
        settings.ACCOUNT_EMAIL_SUBJECT_PREFIX + " ".join(subject.split()),
        "\n\n".join(filter(None, paragraphs)),
        to=[address],
        connection=connection,
        headers={"Auto-Submitted": "auto-generated"},
    )


def _address(path: str) -> str:
    return f"{settings.NEXA_ORIGIN}{path}"
