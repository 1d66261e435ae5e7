"""People for tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

from allauth.mfa.totp.internal.auth import TOTP
from django.utils import timezone

from people.models import Scope, User
from people.services import token_mint

SECOND_FACTOR_SECRET: Final = "JBSWY3DPEHPK3PXP"
_numbers = itertools.count(1)


def user_make(username: str | None = None, **fields: Any) -> User:
    """An active account, saved; it has no password."""
    name = username or f"person-{next(_numbers)}"
    return User.objects.create_user(name, email=f"{name}@example.org", **fields)


def researcher_make(username: str | None = None, **fields: Any) -> User:
    """An account that may submit jobs. No grant is posted: `people.services.researcher_approve` does that."""
    return user_make(username, researcher_approved_at=timezone.now(), **fields)


def moderator_make(username: str | None = None) -> User:
    """Staff with a second factor, and no more: that is what the role is."""
    return second_factor_add(user_make(username, is_staff=True))


def operator_make(username: str | None = None) -> User:
    """A superuser, who says who moderates."""
    return second_factor_add(user_make(username, is_staff=True, is_superuser=True))


def second_factor_add(user: User) -> User:
    """An authenticator app that makes the codes of SECOND_FACTOR_SECRET."""
    TOTP.activate(user, SECOND_FACTOR_SECRET)
    return user


def token_header(owner: User, scopes: Iterable[str] | None = None) -> dict[str, str]:
    """`headers=` for Django's test client: a fresh token of `owner`, with all scopes unless some are named."""
    _, secret = token_mint(owner=owner, name="test", scopes=Scope.values if scopes is None else scopes)
    return {"Authorization": f"Bearer {secret}"}
