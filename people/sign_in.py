"""How people sign up and in: what of allauth's ways is ours."""

from __future__ import annotations

import base64
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils.encoding import force_bytes

from people.invitations.selectors import SESSION_KEY, invitation_of
from people.invitations.services import invitation_use
from people.models import User
from people.selectors import name_is_anothers
from people.sign_up import SignUp

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
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> MultiFernet:
    return MultiFernet([Fernet(_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret: str | bytes) -> bytes:
    return base64.urlsafe_b64encode(HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(force_bytes(secret)))
