"""Writing the trail.

1. Who acts is a moderator: active and staff. Nobody else has an act in the trail, and no act is done without its line there.
2. Every act has a reason.
3. The line is written in the transaction that does the act: both are there, or neither.
4. What is written stays: the table only grows (migration 0002), and the application's role has INSERT and SELECT.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.db import models

from people.errors import ActPointlessError, ModeratorInterestError, ModeratorRequiredError, ReasonMissingError
from people.models import ResearcherApplication, User
from people.moderation.models import REASON_CHARACTERS_MAX, Act, ActKind


def moderator_check(by: User) -> None:
    """Raises ModeratorRequiredError."""
    if not (by.is_active and by.is_staff):
        raise ModeratorRequiredError("Only moderators do this; ask one, or the operator of this portal.")


def interest_check(by: User, *, in_account_of: User) -> None:
    """Raises ModeratorInterestError where both are the same person."""
    if in_account_of.pk == by.pk:
        raise ModeratorInterestError("This is about your own account: another moderator has to do it.")


def act_record(
    *, by: User | None, kind: ActKind, about: models.Model, reason: str, detail: Mapping[str, str] | None = None, act_id: UUID | None = None
) -> Act:
    """A line of the trail. To be called in the transaction that does the act. `by` None: the operator, by a management command.

    Raises ModeratorRequiredError, ReasonMissingError; ActPointlessError where there is a line `act_id` already.
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
        case ResearcherApplication():
            return f"application {about.pk}"
        case _:
            return str(about)[:300]
