"""People for tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from people.models import Scope, User
from people.services import token_mint

_numbers = itertools.count(1)


def user_make(username: str | None = None, **fields: Any) -> User:
    """An active account, saved; it has no password."""
    name = username or f"person-{next(_numbers)}"
    return User.objects.create_user(name, email=f"{name}@example.org", **fields)


def researcher_make(username: str | None = None, **fields: Any) -> User:
    """An account that may submit jobs. No grant is posted: `people.services.researcher_approve` does that."""
    return user_make(username, researcher_approved_at=timezone.now(), **fields)


def moderator_make(username: str | None = None) -> User:
    """Staff, and no more: that is what the role is."""
    return user_make(username, is_staff=True)


def operator_make(username: str | None = None) -> User:
    """A superuser, who says who moderates."""
    return user_make(username, is_staff=True, is_superuser=True)


def token_header(owner: User, scopes: Iterable[str] | None = None) -> dict[str, str]:
    """`headers=` for Django's test client: a fresh token of `owner`, with all scopes unless some are named."""
    _, secret = token_mint(owner=owner, name="test", scopes=Scope.values if scopes is None else scopes)
    return {"Authorization": f"Bearer {secret}"}
