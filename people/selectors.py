"""Reads of people."""

from __future__ import annotations

from uuid import UUID

from allauth.mfa.models import Authenticator
from django.core.signing import BadSignature, Signer
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from people.models import FORMER_NAME, ApiToken, ResearcherApplication, Scope, Team, TeamMember, User
from people.secret_digests import secret_sha256


def token_find(*, secret: str) -> ApiToken | None:
    """The token with this secret, its owner fetched along; expired and revoked ones too. None if there is none."""
    return ApiToken.objects.select_related("owner").filter(secret_sha256=secret_sha256(secret)).first()


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


def has_second_factor(*, user: User) -> bool:
    """Whether `user` signs in with more than a password. Recovery codes alone are none: they stand in for one that was lost."""
    return bool(Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.RECOVERY_CODES).exists())


def scopes_of(*, token: ApiToken | None) -> list[str]:
    """The scopes of a request: those of its token, or all of them for a session (`token` None)."""
    return sorted(token.scopes) if token else sorted(Scope.values)


def public_person(*, name: str) -> User | None:
    """The active person who shows themselves under this name: a display name in any case, or a username as it is. None where nobody does.

    Their team and account are fetched along.
    """
    shown = User.objects.filter(is_public=True, is_active=True).select_related("membership__team", "ledger_account")
    displayed = shown.exclude(display_name="").annotate(lowered=Lower("display_name")).filter(lowered=name.lower())
    return displayed.first() or shown.filter(display_name="", username=name).first()


def name_is_anothers(*, name: str, user: User | None) -> bool:
    """Whether somebody but `user` has this username or display name, in any case; or would be taken for a former member by it."""
    if name.lower().startswith(FORMER_NAME):
        return True
    found = User.objects.filter(Q(username__iexact=name) | Q(display_name__iexact=name))
    return (found if user is None else found.exclude(pk=user.pk)).exists()


def application_newest(*, applicant: User) -> ResearcherApplication | None:
    """The application that says where `applicant` stands; None: they never applied."""
    return ResearcherApplication.objects.filter(applicant=applicant).order_by("-created_at", "-pk").first()


def membership_of(*, user: User) -> TeamMember | None:
    """Which team `user` is in, the team fetched along; None: in none."""
    return TeamMember.objects.select_related("team").filter(user=user).first()


def members_of(*, team: Team) -> list[TeamMember]:
    """The lead first, then by the time of joining; each with its person."""
    return list(TeamMember.objects.select_related("user").filter(team=team).order_by("-is_lead", "joined_at", "pk"))


def invitation_text(*, team: Team) -> str | None:
    """What the team's link ends with: `invitation_id`, signed, so that a copy of the database lets nobody in. None: no link works."""
    return None if team.invitation_id is None else _invitations().sign(team.invitation_id.hex)


def invitation_team(*, text: str) -> Team | None:
    """The team that a link invites to; None where it was revoked, replaced or never made here."""
    try:
        invitation_id = UUID(_invitations().unsign(text))
    except (BadSignature, ValueError):
        return None
    return Team.objects.filter(invitation_id=invitation_id).first()


def _invitations() -> Signer:
    return Signer(salt="people.team_invitation")
