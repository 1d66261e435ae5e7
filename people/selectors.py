"""Reads of people."""

from __future__ import annotations

from django.db.models import QuerySet
from django.db.models.functions import Lower

from people.models import ApiToken, Scope, User
from people.services import token_secret_sha256


def token_find(*, secret: str) -> ApiToken | None:
    """The token with this secret, its owner fetched along; expired and revoked ones too. None if there is none."""
    return ApiToken.objects.select_related("owner").filter(secret_sha256=token_secret_sha256(secret)).first()


def tokens_of(*, owner: User) -> QuerySet[ApiToken]:
    """All tokens of `owner`, newest first, expired and revoked ones too."""
    return ApiToken.objects.filter(owner=owner).order_by("-created_at", "-pk")


def roles_of(*, user: User) -> list[str]:
    """What `user` may be here: everybody contributes; researchers are approved; moderators are staff."""
    roles = ["contributor"]
    if user.is_researcher:
        roles.append("researcher")
    if user.is_staff:
        roles.append("moderator")
    return roles


def scopes_of(*, token: ApiToken | None) -> list[str]:
    """The scopes of a request: those of its token, or all of them for a session (`token` None)."""
    return sorted(token.scopes) if token else sorted(Scope.values)


def public_person(*, name: str) -> User | None:
    """The active person who shows themselves under this name: a display name in any case, or a username as it is. None where nobody does.

    Their team is fetched along.
    """
    shown = User.objects.filter(is_public=True, is_active=True).select_related("membership__team")
    displayed = shown.exclude(display_name="").annotate(lowered=Lower("display_name")).filter(lowered=name.lower())
    return displayed.first() or shown.filter(display_name="", username=name).first()
