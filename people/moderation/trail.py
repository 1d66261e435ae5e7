"""Writing the trail.

1. Who acts is a moderator: active and staff, and with a second factor on the account unless the operator turned that off
   (NEXA_MODERATOR_SECOND_FACTOR). Nobody else has an act in the trail, and no act is done without its line there.
2. Every act has a reason.
3. The line is written in the transaction that does the act: both are there, or neither.
4. What is written stays: the table only grows (migration 0002), and the application's role has INSERT and SELECT.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.conf import settings
from django.db import models
from django.urls import reverse

from people.errors import (
    ActPointlessError,
    ModeratorInterestError,
    ModeratorRequiredError,
    ReasonMissingError,
    SecondFactorRequiredError,
)
from people.invitations.models import Invitation
from people.models import ResearcherApplication, User
from people.moderation.models import REASON_CHARACTERS_MAX, Act, ActKind
from people.selectors import has_second_factor


def moderator_check(by: User) -> None:
    """Raises ModeratorRequiredError, SecondFactorRequiredError."""
    if not (by.is_active and by.is_staff):
        raise ModeratorRequiredError("Only moderators do this; ask one, or the operator of this portal.")
    if lacks_second_factor(by):
        raise SecondFactorRequiredError(
            "Expected an authenticator app or a passkey on the account of a moderator who acts; found a password alone. "
            f"Add one at {settings.NEXA_ORIGIN}{reverse('mfa_index')}, then do this again."
        )


def lacks_second_factor(by: User) -> bool:
    """Whether all acts of this moderator are refused until they have a second factor."""
    return settings.NEXA_MODERATOR_SECOND_FACTOR and not has_second_factor(user=by)


def interest_check(by: User, *, in_account_of: User) -> None:
    """Raises ModeratorInterestError where both are the same person."""
    if in_account_of.pk == by.pk:
        raise ModeratorInterestError("This is about your own account: another moderator has to do it.")


def act_record(
    *, by: User | None, kind: ActKind, about: models.Model, reason: str, detail: Mapping[str, str] | None = None, act_id: UUID | None = None
) -> Act:
    """A line of the trail. To be called in the transaction that does the act. `by` None: the operator, by a management command.

    Raises ModeratorRequiredError, SecondFactorRequiredError, ReasonMissingError; ActPointlessError where there is a line `act_id` already.
    """
    if by is not None:
        moderator_check(by)
    words = reason.strip()
    if not 0 < len(words) <= REASON_CHARACTERS_MAX:
        raise ReasonMissingError(f"Expected a reason of 1 to {REASON_CHARACTERS_MAX} characters, found {len(words)}. Say why.")
    act = Act(
        by=by,
        kind=kind,
        about_table=about._meta.label_lower,
        about_key=str(about.pk),
        about_name=_name_of(about),
        reason=words,
        detail=dict(detail or {}),
    )
    if act_id is not None:
        if Act.objects.filter(pk=act_id).exists():
            raise ActPointlessError("This form was sent before, and what it asked for is done: the trail has it.")
        act.pk = act_id
    act.save(force_insert=True)
    return act


def _name_of(about: models.Model) -> str:
    """What it is called, but for people: names of those who are forgotten must not stay in what never changes."""
    match about:
        case User():
            return f"account {about.pk}"
        case Invitation():
            return f"invitation {about.pk}"
        case ResearcherApplication():
            return f"application {about.pk}"
        case _:
            return str(about)[:300]
