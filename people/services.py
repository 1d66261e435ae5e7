"""Writes of people: API tokens and researchers' approval."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ledger.services import start_grant_post
from people.errors import (
    ModeratorRequiredError,
    TokenExpiryPastError,
    TokenScopesInvalidError,
    TokensTooManyError,
)
from people.models import ApiToken, Scope, User

TOKEN_PREFIX: Final = "nexa_"  # noqa: S105  what every token starts with, so that scanners find leaked ones
TOKENS_PER_OWNER_MAX: Final = 100
LAST_USED_RESOLUTION: Final = timedelta(minutes=1)


def token_secret_sha256(secret: str) -> bytes:
    """What is stored of a secret. Plain SHA-256 suffices: the secret is 256 random bits, not a password."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@transaction.atomic
def token_mint(*, owner: User, name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """A new token of `owner` and its secret (`nexa_` and 43 characters), which is told here and never again.

    `scopes` are values of Scope, at least one; `expires_at` None: it lives until it is revoked.
    Raises TokenScopesInvalidError, TokenExpiryPastError, TokensTooManyError.
    """
    wanted = set(map(str, scopes))
    if not wanted or not wanted <= set(Scope.values):
        raise TokenScopesInvalidError(
            f"Expected one or more of {', '.join(Scope.values)}; found {', '.join(sorted(wanted))[:200] or 'none'}."
        )
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise TokenExpiryPastError(f"Expected a time after {now:%Y-%m-%dT%H:%M:%SZ}; give a later one, or none.")
    User.objects.select_for_update().get(pk=owner.pk)  # one mint at a time, so that the limit holds
    live = ApiToken.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), owner=owner, revoked_at=None)
    if live.count() >= TOKENS_PER_OWNER_MAX:
        raise TokensTooManyError(f"There are {TOKENS_PER_OWNER_MAX} live tokens of yours; revoke some first.")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        owner=owner,
        name=name,
        secret_sha256=token_secret_sha256(secret),
        scopes=sorted(wanted),
        expires_at=expires_at,
    )
    return token, secret


def token_revoke(*, token: ApiToken) -> ApiToken:
    """Ends the token at once; the first revocation's time stays. Idempotent."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    token.refresh_from_db()
    return token


def token_use_record(*, token: ApiToken, now: datetime) -> None:
    """Remembers when the token was last used, to the minute: a write for each request would be too dear."""
    if token.last_used_at is None or now - token.last_used_at >= LAST_USED_RESOLUTION:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


@transaction.atomic
def researcher_approve(*, user: User, approved_by: User) -> User:
    """Lets `user` submit jobs and posts their start grant from the treasury. Idempotent: approved twice, granted once.

    Raises ModeratorRequiredError.
    """
    if not (approved_by.is_staff and approved_by.is_active):
        raise ModeratorRequiredError("Only staff approve researchers; ask a moderator of this portal.")
    locked = User.objects.select_for_update().get(pk=user.pk)
    if locked.researcher_approved_at is None:
        locked.researcher_approved_at = timezone.now()
        locked.save(update_fields=["researcher_approved_at"])
        start_grant_post(user=locked)
    user.researcher_approved_at = locked.researcher_approved_at
    return user
