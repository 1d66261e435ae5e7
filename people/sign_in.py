"""How people sign up and in: what of allauth's ways is ours."""

from __future__ import annotations

import base64
import logging
import secrets
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import ratelimit
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import render
from django.utils.encoding import force_bytes

from people.invitations.selectors import SESSION_KEY, invitation_of
from people.invitations.services import invitation_use
from people.mail import mail_server_is_missing
from people.models import User
from people.selectors import name_is_anothers
from people.sign_up import SignUp

log = logging.getLogger(__name__)

_PURPOSE: Final = b"nexapod second factors"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # it has no types
    """allauth's accounts; a username is nobody's display name, so that nobody on the wall is taken for another."""

    def clean_username(self, username: str, shallow: bool = False) -> str:
        cleaned: str = super().clean_username(username, shallow=shallow)
        if not shallow and name_is_anothers(name=cleaned, user=None):
            raise ValidationError("Somebody has this name already. Choose another one.")
        return cleaned

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        match SignUp(settings.NEXA_SIGN_UP):
            case SignUp.OPEN:
                return True
            case SignUp.INVITATION:
                return invitation_of(request) is not None
            case SignUp.CLOSED:
                return False

    @transaction.atomic
    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """Who was invited uses the invitation up by becoming somebody. Raises InvitationInvalidError: used by another in between."""
        saved: User = super().save_user(request, user, form, commit)
        if secret := request.session.pop(SESSION_KEY, None):
            invitation = invitation_use(secret=secret, account=saved)
            self.stash_verified_email(request, invitation.email)  # the link came to that address; allauth takes it from there
        return saved

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Where nobody takes the mail, what wanted it ends with a page that says so, alike whether the address has an account.

        Raises ImmediateHttpResponse, with that page.
        """
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:  # SMTPException is one
            kind = template_prefix.rpartition("/")[2]
            log.error("a mail (%s) could not be sent: %s", kind, error)  # noqa: TRY400  # where it was raised tells nobody anything
            # Another attempt is to send another mail: this one counts for nothing.
            ratelimit.clear(self.request, action="confirm_email", key=email.lower())
            about = {"kind": kind, "server_is_missing": mail_server_is_missing()}
            raise ImmediateHttpResponse(render(self.request, "account/mail_failed.html", about, status=503)) from error

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """What it tells of is done, whatever becomes of the mail."""
        try:
            super().send_notification_mail(*args, **kwargs)
        except ImmediateHttpResponse:
            why = "this portal has no mail server" if mail_server_is_missing() else "the mail server did not take it"
            messages.warning(self.request, f"It is done. No mail tells you of it, as {why}.")


class ElsewhereAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # it has no types
    """allauth's accounts from elsewhere. Who was invited sees the form, which has the address that the invitation is for."""

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: Any) -> bool:
        return invitation_of(request) is None and bool(super().is_auto_signup_allowed(request, sociallogin))


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # it has no types
    """allauth's second factors, their secrets encrypted at rest under the portal's secret key.

    Who has a copy of the database, and not the key, can't make codes. SECRET_KEY_FALLBACKS keep older secrets readable.
    """

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Where the key is another one, what nobody knows: no code fits it, and the page says that the code is wrong."""
        try:
            return _cipher().decrypt(encrypted_text.encode()).decode()
        except InvalidToken:
            log.warning("a second factor can't be read with the portal's secret key: docs/operations.md, a secret leaked")
            return base64.b32encode(secrets.token_bytes(20)).decode()

    def is_readable(self, encrypted_text: str) -> bool:
        """Whether it was encrypted under the portal's secret key."""
        try:
            _cipher().decrypt(encrypted_text.encode())
        except InvalidToken:
            return False
        return True


def _cipher() -> MultiFernet:
    return MultiFernet([Fernet(_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret: str | bytes) -> bytes:
    return base64.urlsafe_b64encode(HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(force_bytes(secret)))
