"""Mail that goes at once or not at all, and what mails where there is no mail server.

What people are told goes as notifications, which wait for a mail server that is away (people/notifications/mailing.py). Here goes what
may not wait in the database: a link that is a secret, the last word to an address that is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from smtplib import SMTPException
from typing import Final

from django.conf import settings
from django.core.mail import send_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.db import transaction

log = logging.getLogger(__name__)

MISSING_SERVER_BACKEND: Final = "people.mail.MissingServerBackend"


class MailServerMissingError(SMTPException):
    """Nobody said by which server the portal mails. An SMTPException, as any other reason why a mail can't be handed in."""


class MissingServerBackend(BaseEmailBackend):
    """Django's way to send mail where there is none: refuses each, instead of asking a server that nobody named."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Raises MailServerMissingError."""
        if self.fail_silently:
            return 0
        raise MailServerMissingError("No mail server is set, so no mail is sent. Name one in NEXA_EMAIL_HOST (docs/operations.md).")


def mail_server_is_missing() -> bool:
    return bool(settings.EMAIL_BACKEND == MISSING_SERVER_BACKEND)


def mail_on_commit(subject: str, words: Sequence[str], address: str) -> None:
    """One mail, a paragraph a word, once what it tells of is in the database. A mail server that is away undoes nothing."""

    def send() -> None:
        try:
            send_mail(settings.ACCOUNT_EMAIL_SUBJECT_PREFIX + subject, "\n\n".join(words), None, [address])
        except OSError as error:  # as all of smtplib's are
            log.warning("a mail (%s) could not be sent: %s", subject, error)

    transaction.on_commit(send)
