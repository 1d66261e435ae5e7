"""The places of the top bar, and what every page shows of who is signed in: a context processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from ledger.selectors import balance_micro_of
from people.models import User
from people.notifications.selectors import unread_count


@dataclass(frozen=True)
class Place:
    """A link of the top bar. `prefix`: the paths at which it is where one is. On a phone the bar is at the bottom and holds four."""

    name: str
    url_name: str
    prefix: str
    on_phone: frozenset[str] = frozenset()
    """The roles (people.selectors.roles_of; `visitor` is nobody) that find it in a phone's bar; others in the menu."""


PLACES: Final = (
    Place("Jobs", "jobs-page", "/jobs/", frozenset({"researcher", "moderator"})),
    Place("Nodes", "nodes-page", "/nodes/", frozenset({"contributor", "moderator"})),
    Place("Wall", "wall-page", "/wall/", frozenset({"visitor", "contributor"})),
    Place("Bank", "bank-page", "/bank/", frozenset({"contributor", "researcher"})),
    Place("Live", "live", "/live/", frozenset({"visitor", "researcher", "moderator"})),
    Place("Ledger", "ledger-page", "/ledger/", frozenset({"visitor", "moderator"})),
    Place("Docs", "docs", "/docs/", frozenset({"visitor", "contributor", "researcher"})),
)


def frame(request: HttpRequest) -> dict[str, Any]:
    """`places` of the bar, `sign_up` (people.sign_up.SignUp), and of who is signed in `balance_micro` and `unread` notifications, looked up
    where they are shown."""
    user = getattr(request, "user", None)  # an error page may be shown before anybody knows who asked
    return {
        "places": SimpleLazyObject(lambda: _places(request.path, _role(user))),
        "balance_micro": SimpleLazyObject(lambda: _balance(user)),
        "sign_up": settings.NEXA_SIGN_UP,
        "unread": SimpleLazyObject(lambda: unread_count(owner=user) if isinstance(user, User) else 0),
    }


def _places(path: str, role: str) -> list[dict[str, Any]]:
    return [
        {"name": place.name, "href": reverse(place.url_name), "is_here": path.startswith(place.prefix), "on_phone": role in place.on_phone}
        for place in PLACES
    ]


def _role(user: object) -> str:
    """The one role that decides what a phone shows."""
    if not isinstance(user, User):
        return "visitor"
    if user.is_staff:
        return "moderator"
    return "researcher" if user.is_researcher else "contributor"


def _balance(user: object) -> int:
    return balance_micro_of(user_id=user.pk) if isinstance(user, User) else 0
