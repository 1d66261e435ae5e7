"""Writes of teams. A team has one lead as long as it has members, and ends with its last: the database sees to it (migration 0003)."""

from __future__ import annotations

from uuid import uuid4

from django.db import IntegrityError, transaction

from people.errors import (
    InvitationInvalidError,
    NameInvalidError,
    NameTakenError,
    TeamLeadRequiredError,
    TeamMemberAlreadyError,
    TeamMemberUnknownError,
)
from people.models import TEAM_NAME_MAX, Team, TeamMember, User
from people.selectors import invitation_team
from people.services import name_clean


@transaction.atomic
def team_create(*, lead: User, name: str) -> Team:
    """A team of one. Raises NameInvalidError, NameTakenError, TeamMemberAlreadyError."""
    team = Team(name=_name(name))
    _save(team)
    _member_add(team, lead, is_lead=True)
    return team


@transaction.atomic
def team_rename(*, team: Team, by: User, name: str) -> Team:
    """Raises TeamLeadRequiredError, NameInvalidError, NameTakenError."""
    _lead_check(team, by)
    return team_name_set(team=team, name=name)


def team_name_set(*, team: Team, name: str) -> Team:
    """`team_rename` without asking who wants it. Raises NameInvalidError, NameTakenError."""
    team.name = _name(name)
    _save(team)
    return team


@transaction.atomic
def invitation_make(*, team: Team, by: User) -> Team:
    """A new link to join by; the one before stops working. Raises TeamLeadRequiredError."""
    _lead_check(team, by)
    team.invitation_id = uuid4()
    team.save(update_fields=["invitation_id"])
    return team


@transaction.atomic
def invitation_revoke(*, team: Team, by: User) -> Team:
    """No link works any more. Idempotent. Raises TeamLeadRequiredError."""
    _lead_check(team, by)
    team.invitation_id = None
    team.save(update_fields=["invitation_id"])
    return team


@transaction.atomic
def team_join(*, user: User, invitation: str) -> Team:
    """By the text at the end of a link. Joining the team that one is in changes nothing.

    Raises InvitationInvalidError, TeamMemberAlreadyError.
    """
    found = invitation_team(text=invitation)
    team = None if found is None else Team.objects.select_for_update().filter(pk=found.pk, invitation_id=found.invitation_id).first()
    if team is None:
        raise InvitationInvalidError("The link was revoked or replaced, or is not whole. Ask the team's lead for a new one.")
    if not TeamMember.objects.filter(team=team, user=user).exists():
        _member_add(team, user, is_lead=False)
    return team


def team_leave(*, user: User) -> None:
    """Idempotent. A lead's place goes to who joined first; a team that nobody is left in is removed."""
    TeamMember.objects.filter(user=user).delete()


@transaction.atomic
def team_member_remove(*, team: Team, by: User, member_id: int) -> None:
    """The lead sends somebody away; a link that they may know is replaced. Raises TeamLeadRequiredError, TeamMemberUnknownError."""
    Team.objects.select_for_update().get(pk=team.pk)
    _lead_check(team, by)
    removed, _ = TeamMember.objects.filter(team=team, pk=member_id, is_lead=False).delete()
    if not removed:
        raise TeamMemberUnknownError("Expected somebody of this team who doesn't lead it; they may have left. Reload the page.")
    if team.invitation_id is not None:
        invitation_make(team=team, by=by)


def _lead_check(team: Team, by: User) -> None:
    if not TeamMember.objects.filter(team=team, user=by, is_lead=True).exists():
        raise TeamLeadRequiredError("Only the team's lead renames it, invites and removes. Ask them.")


def _name(name: str) -> str:
    cleaned = name_clean(name=name, characters_max=TEAM_NAME_MAX)
    if not cleaned:
        raise NameInvalidError("Expected a name, found none. It is shown on the wall.")
    return cleaned


def _save(team: Team) -> None:
    try:
        with transaction.atomic():
            team.save()
    except IntegrityError as error:
        raise NameTakenError(f"There is a team {team.name!r} already. Choose another name, or ask its lead for a link.") from error


def _member_add(team: Team, user: User, *, is_lead: bool) -> None:
    try:
        with transaction.atomic():
            TeamMember.objects.create(team=team, user=user, is_lead=is_lead)
    except IntegrityError as error:
        raise TeamMemberAlreadyError("A person is in one team at most. Leave yours first.") from error
