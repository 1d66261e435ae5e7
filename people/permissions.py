"""What a request may do by its credential. Whose objects it may touch is for the selectors."""

from __future__ import annotations

from collections.abc import Mapping

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from people.errors import ScopeMissingError, SessionRequiredError
from people.models import ApiToken, Scope


def scope_check(*, token: ApiToken | None, scope: Scope) -> None:
    """Return if the token has `scope`; a session (`token` None) has all. Raises ScopeMissingError."""
    if token is not None and scope.value not in token.scopes:
        raise ScopeMissingError(
            f"Expected a token with the scope {scope.value} ({scope.label}); this one has {', '.join(token.scopes)}. Mint one that has it.",
            required_scope=scope.value,
        )


class ScopePermission(BasePermission):
    """Signed in, and with the scope that the view names for the method.

    `view.required_scopes` maps methods to a Scope, or to None where any signed-in caller may. A method that the view
    answers and the map doesn't name is refused: a forgotten line closes a door rather than opening one.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        required: Mapping[str, Scope | None] = getattr(view, "required_scopes", {})
        method = "GET" if request.method == "HEAD" else request.method or ""
        if method == "OPTIONS" or not hasattr(view, method.lower()):
            return True  # a description, or a 405 in a moment
        if method not in required:
            return False
        scope = required[method]
        if scope is not None:
            scope_check(token=request.auth if isinstance(request.auth, ApiToken) else None, scope=scope)
        return True


class SessionPermission(BasePermission):
    """Signed in through the portal: an API token doesn't do, so that a leaked one can't mint others."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        if isinstance(request.auth, ApiToken):
            raise SessionRequiredError("API tokens can't manage API tokens. Sign in to the portal and do it there.")
        return True


class TokenItselfOrSessionPermission(SessionPermission):
    """As SessionPermission, but a token may do this to itself: who finds it leaked can end it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if isinstance(request.auth, ApiToken) and request.auth.pk == view.kwargs.get("token_id"):
            return True
        return super().has_permission(request, view)
