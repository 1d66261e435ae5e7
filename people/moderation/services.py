"""Acts of moderators on people and their credits. Those on nodes are in nodes/moderation.py, those on jobs and images in jobs/services.

1. Each is as people/moderation/trail.py says. What would change nothing is refused, and leaves no line there.
2. Nobody acts for their own benefit: not on their own account, nor on an entry that moved credits of theirs.
3. What one moderator may grant in 24 hours is bounded: who steals a session steals no more than that.
4. The ledger is never edited: a reversal is an entry of its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from ledger.models import Entry
from ledger.movements import reversal_key
from ledger.services import EntryNotReversibleError, account_of, grant_post, reversal_post
from people.errors import (
    ActPointlessError,
    EntryIrreversibleError,
    GrantTooLargeError,
    ModeratorInterestError,
    ModeratorRequiredError,
    ReasonMissingError,
)
from people.models import ApiToken, Team, User
from people.moderation.models import Act, ActKind
from people.moderation.trail import act_record, interest_check
from people.services import token_revoke
from people.team_services import team_name_set

PUBLIC_REASON_CHARACTERS_MAX: Final = 300
"""Of what stands in the ledger, for good."""
GRANT_WINDOW: Final = timedelta(hours=24)


@transaction.atomic
def credits_grant(*, to: User, by: User, amount_micro: int, reason: str, act_id: UUID) -> Entry:
    """Credits from the treasury for a person. The reason is public and stays in the ledger. One grant for each `act_id`.

    Raises ModeratorInterestError, GrantTooLargeError, ActPointlessError, and as act_record.
    """
    interest_check(by, in_account_of=to)
    public = _public(reason)
    User.objects.select_for_update(no_key=True).get(pk=by.pk)  # one grant at a time, so that the bound holds
    left = grants_left_micro(by=by, now=timezone.now())
    if not 0 < amount_micro <= left:
        raise GrantTooLargeError(
            f"Expected more than 0 and at most {left / 1e6:g} credits: what is left of the {settings.NEXA_GRANT_DAY_MICRO / 1e6:g} that a "
            f"moderator grants in 24 hours. Found {amount_micro / 1e6:g}."
        )
    detail = {"amount_micro": str(amount_micro)}
    act_record(by=by, kind=ActKind.CREDITS_GRANTED, about=to, reason=public, detail=detail, act_id=act_id)
    return grant_post(to=account_of(user=to), amount_micro=amount_micro, reason=public, idempotency_key=f"act:{act_id}")


def grants_left_micro(*, by: User, now: datetime) -> int:
    """What `by` may still grant."""
    granted = Act.objects.filter(by=by, kind=ActKind.CREDITS_GRANTED, at__gt=now - GRANT_WINDOW)
    spent = sum(int(detail["amount_micro"]) for detail in granted.values_list("detail", flat=True))
    return max(0, int(settings.NEXA_GRANT_DAY_MICRO) - spent)


@transaction.atomic
def entry_reverse(*, entry: Entry, by: User, reason: str) -> Entry:
    """Undoes a grant or a payment by an entry of its own. The reason is public and stays in the ledger.

    Raises EntryIrreversibleError, ModeratorInterestError, CreditsInsufficientError where the credits are spent, and as act_record.
    """
    public = _public(reason)
    reversed_before = EntryIrreversibleError(f"Entry {entry.pk} was reversed before. What was reversed stays so; a grant can follow.")
    if Entry.objects.filter(idempotency_key=reversal_key(entry.pk)).exists():
        raise reversed_before
    act = act_record(by=by, kind=ActKind.ENTRY_REVERSED, about=entry, reason=public)
    try:
        reversal = reversal_post(entry=entry, reason=f"{public} (act {act.pk})")
    except EntryNotReversibleError as error:
        raise EntryIrreversibleError(
            f"Only grants are undone, and payments to another than who reserved; entry {entry.pk} is a {entry.kind} that is neither."
        ) from error
    if str(act.pk) not in reversal.evidence["reason"]:  # of two at once the ledger takes the first, and gives it to both
        raise reversed_before
    if reversal.postings.filter(account__owner=by).exists():
        raise ModeratorInterestError("Credits of yours would move: another moderator has to reverse this entry.")
    return reversal


@transaction.atomic
def account_close(*, user: User, by: User, reason: str) -> User:
    """Nobody signs in to it, its tokens and its nodes' keys open nothing; what was earned stays. Raises ModeratorInterestError and as
    act_record; ModeratorRequiredError also where it is a moderator's: the operator dismisses them first."""
    locked = _other(user, by)
    if locked.is_staff:
        raise ModeratorRequiredError("This account is a moderator's. The operator dismisses them first.")
    return _active_set(locked, by, is_active=False, kind=ActKind.ACCOUNT_CLOSED, reason=reason)


@transaction.atomic
def account_reopen(*, user: User, by: User, reason: str) -> User:
    """Undoes account_close. Raises ModeratorInterestError, ActPointlessError and as act_record."""
    return _active_set(_other(user, by), by, is_active=True, kind=ActKind.ACCOUNT_REOPENED, reason=reason)


@transaction.atomic
def moderator_appoint(*, user: User, by: User, reason: str) -> User:
    """Raises ActPointlessError, ModeratorRequiredError, ReasonMissingError."""
    return _staff_set(user, by, is_staff=True, kind=ActKind.MODERATOR_APPOINTED, reason=reason)


@transaction.atomic
def moderator_dismiss(*, user: User, by: User, reason: str) -> User:
    """Raises ActPointlessError, ModeratorInterestError, ModeratorRequiredError, ReasonMissingError."""
    return _staff_set(user, by, is_staff=False, kind=ActKind.MODERATOR_DISMISSED, reason=reason)


@transaction.atomic
def token_end(*, token: ApiToken, by: User, reason: str) -> ApiToken:
    """Revokes somebody's API token: it leaked. Raises ActPointlessError and as act_record."""
    locked = ApiToken.objects.select_for_update().get(pk=token.pk)
    if locked.revoked_at is not None:
        raise ActPointlessError("The token was revoked before.")
    act_record(by=by, kind=ActKind.TOKEN_REVOKED, about=locked, reason=reason)
    return token_revoke(token=locked)


@transaction.atomic
def team_name_replace(*, team: Team, by: User, name: str, reason: str) -> Team:
    """Another name for a team whose own offends. Raises NameInvalidError, NameTakenError and as act_record."""
    locked = Team.objects.select_for_update().get(pk=team.pk)
    before = str(locked)
    act_record(by=by, kind=ActKind.TEAM_RENAMED, about=locked, reason=reason, detail={"from": before, "to": name})
    return team_name_set(team=locked, name=name)


@transaction.atomic
def team_remove(*, team: Team, by: User, reason: str) -> None:
    """Ends a team. What its members did stays theirs. Raises as act_record."""
    locked = Team.objects.select_for_update().get(pk=team.pk)
    act_record(by=by, kind=ActKind.TEAM_REMOVED, about=locked, reason=reason)
    locked.delete()


def _public(reason: str) -> str:
    """`reason` as it will stand in the ledger. Raises ReasonMissingError."""
    words = " ".join(reason.split())
    if not 0 < len(words) <= PUBLIC_REASON_CHARACTERS_MAX:
        raise ReasonMissingError(f"Expected a reason of 1 to {PUBLIC_REASON_CHARACTERS_MAX} characters, found {len(words)}: it is public.")
    return words


def _other(user: User, by: User) -> User:
    """`user`, locked. Raises ModeratorInterestError where that is `by`."""
    interest_check(by, in_account_of=user)
    return User.objects.select_for_update(no_key=True).get(pk=user.pk)


def _active_set(locked: User, by: User, *, is_active: bool, kind: ActKind, reason: str) -> User:
    if locked.erased_at is not None:
        raise ActPointlessError("The account was erased: nobody is there who could be let in.")
    if locked.is_active == is_active:
        raise ActPointlessError(f"The account is {'open' if is_active else 'closed'} already.")
    act_record(by=by, kind=kind, about=locked, reason=reason)
    locked.is_active = is_active
    locked.save(update_fields=["is_active"])
    return locked


def _staff_set(user: User, by: User, *, is_staff: bool, kind: ActKind, reason: str) -> User:
    if not (by.is_active and by.is_superuser):
        raise ModeratorRequiredError("Who moderates is said by the operator: a superuser of this portal.")
    locked = _other(user, by)
    if locked.is_staff == is_staff:
        raise ActPointlessError(f"{locked} {'is a moderator already' if is_staff else 'is no moderator'}.")
    act_record(by=by, kind=kind, about=locked, reason=reason)
    locked.is_staff = is_staff
    locked.is_superuser = locked.is_superuser and is_staff
    locked.save(update_fields=["is_staff", "is_superuser"])
    return locked
