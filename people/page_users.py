"""Who is signed in, for the pages of every app."""

from __future__ import annotations

from django.http import HttpRequest

from people.models import User


def user_of(request: HttpRequest) -> User:
    """The person that `login_required` has made sure of. Raises TypeError on a page without it."""
    user = request.user
    if not isinstance(user, User):
        raise TypeError("a page without login_required asked for the user")
    return user
