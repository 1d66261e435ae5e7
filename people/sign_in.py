"""How people sign in: what of allauth's ways is ours."""

from __future__ import annotations

import base64
from typing import Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.encoding import force_bytes

from people.selectors import name_is_anothers

_PURPOSE: Final = b"nexapod second factors"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # it has no types
    """allauth's accounts; a username is nobody's display name, so that nobody on the wall is taken for another."""

    def clean_username(self, username: str, shallow: bool = False) -> str:
        cleaned: str = super().clean_username(username, shallow=shallow)
        if not shallow and name_is_anothers(name=cleaned, user=None):
            raise ValidationError("Somebody has this name already. Choose another one.")
        return cleaned


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
