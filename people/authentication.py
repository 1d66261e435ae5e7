"""Bearer tokens on REST requests: `Authorization: Bearer nexa_…`."""

from __future__ import annotations

import re
from typing import Final

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from people.errors import (
    AccountInactiveError,
    TokenExpiredError,
    TokenMalformedError,
    TokenRevokedError,
    TokenUnknownError,
)
from people.models import ApiToken, User
from people.selectors import token_find
from people.services import TOKEN_PREFIX, token_use_record

_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_\-]{{43}}")


def token_authenticate(authorization: str) -> ApiToken:
    """The live token that an Authorization field carries, its owner fetched along. For views outside of DRF.

    Raises TokenMalformedError, TokenUnknownError, TokenRevokedError, TokenExpiredError, AccountInactiveError; their
    messages never repeat the token.
    """
    scheme, _, secret = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or _TOKEN.fullmatch(secret.strip()) is None:
        raise TokenMalformedError(f"Expected 'Authorization: Bearer {TOKEN_PREFIX}…' as the portal showed it, once.")
    token = token_find(secret=secret.strip())
    if token is None:
        raise TokenUnknownError("This portal has no such token. Check the portal's address, or mint a new token.")
    now = timezone.now()
    if token.revoked_at is not None:
        raise TokenRevokedError(f"The token was revoked at {token.revoked_at:%Y-%m-%dT%H:%M:%SZ}. Mint a new one.")
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenExpiredError(f"The token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}. Mint a new one.")
    if not token.owner.is_active:
        raise AccountInactiveError("The account of this token is closed. Write to the operator of the portal.")
    token_use_record(token=token, now=now)
    return token


class TokenAuthentication(BaseAuthentication):
    """`request.user` is the token's owner, `request.auth` the ApiToken. Other schemes are left to others."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return None
        token = token_authenticate(authorization)
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="nexapod"'
