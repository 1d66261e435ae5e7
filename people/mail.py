"""Mail at a portal to which no mail server was named: nothing is sent, and whoever wanted to send hears why."""

from __future__ import annotations

from collections.abc import Sequence
from smtplib import SMTPException
from typing import Final

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage

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
