"""What moderators' search boxes find: by indexed look-ups only, so that a search costs the same at a million rows as at ten.

A finder takes what was typed and returns primary keys, at most FOUND_MAX. What several of them find is shown together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from allauth.account.models import EmailAddress
from django.db.models.functions import Lower

from people.models import User

FOUND_MAX: Final = 1000
Finder = Callable[[str], Sequence[Any]]


def uuid_of(text: str) -> UUID | None:
    """The id that was typed; None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def people_called(text: str) -> list[int]:
    """Whose username or e-mail address this is, or whose display name, in any case."""
    addresses = EmailAddress.objects.filter(email=text.lower())
    displayed = User.objects.exclude(display_name="").annotate(lowered=Lower("display_name")).filter(lowered=text.lower())
    found = {*addresses.values_list("user_id", flat=True), *displayed.values_list("pk", flat=True)}
    return sorted(found | set(User.objects.filter(username=text).values_list("pk", flat=True)))


def people_beginning(text: str) -> list[int]:
    """Whose username begins so."""
    return list(User.objects.filter(username__startswith=text).values_list("pk", flat=True)[:FOUND_MAX])
