"""The erasure of a person, at their own wish or by a moderator.

1. All that says who they are goes, in one transaction: names, addresses, sign-in, tokens, applications, notifications, team, invitation.
2. The row stays, without a name, as what jobs, nodes, acts and the ledger's account belong to: they stay as they were signed.
3. What other apps know of a person they erase themselves: the modules that settings.NEXA_ERASURES names.
4. It is refused while something would be lost to others: while jobs of theirs are open, or they moderate. Nodes are no obstacle: they are
   revoked, and what they run now goes to other hosts.
5. It can't be undone, and the account is never opened again.
6. Their credits stay on the account, which nobody can spend from any more. What is still to be paid to it is paid.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from people.errors import ActPointlessError, ErasureRefusedError
from people.invitations.models import Invitation
from people.mail import mail_on_commit
from people.models import FORMER_NAME, ApiToken, ResearcherApplication, TeamMember, User
from people.moderation.models import ActKind
from people.moderation.trail import act_record, interest_check
from people.notifications.models import Notification, NotificationSetting, Webhook

_THEIRS: Final = (
    (EmailAddress, "user"), (Authenticator, "user"), (SocialAccount, "user"), (UserSession, "user"), (ApiToken, "owner"),
    (ResearcherApplication, "applicant"), (Notification, "owner"), (NotificationSetting, "owner"), (Webhook, "owner"),
    (TeamMember, "user"), (Invitation, "account"),
)  # fmt: skip
"""Rows that go with what hangs on them, and the column that names the person."""


class Erasure(Protocol):
    """A module of NEXA_ERASURES."""

    def erasure_obstacle(self, *, person: User) -> str | None:
        """Why the person can't be erased now and what to do about it, as sentences; None where nothing is in the way."""

    def person_erase(self, *, person: User) -> None:
        """Removes what is personal. In the transaction of the erasure; idempotent."""


def erasure_obstacles(*, person: User) -> list[str]:
    """What is in the way of an erasure, each with what to do about it."""
    staff = "You moderate this portal. Ask the operator to dismiss you first." if person.is_staff or person.is_superuser else None
    return [found for found in (staff, *(each.erasure_obstacle(person=person) for each in _erasures())) if found]


@transaction.atomic
def account_erase(*, user: User) -> User:
    """Erases a person at their own wish; a mail to the address that they had says that it is done. Raises ErasureRefusedError."""
    return _erased(_locked(user))


@transaction.atomic
def account_erase_for(*, user: User, by: User, reason: str) -> User:
    """Erases a person who asked a moderator for it.

    Raises ErasureRefusedError, ModeratorInterestError, ActPointlessError and as act_record.
    """
    interest_check(by, in_account_of=user)
    locked = _locked(user)
    act_record(by=by, kind=ActKind.ACCOUNT_ERASED, about=locked, reason=reason)
    return _erased(locked)


def _locked(user: User) -> User:
    locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if locked.erased_at is not None:
        raise ActPointlessError("The account was erased before.")
    return locked


def _erased(person: User) -> User:
    if obstacles := erasure_obstacles(person=person):
        raise ErasureRefusedError(" ".join(obstacles))
    if person.email:
        words = [
            f"Your account at {settings.NEXA_ORIGIN} was deleted, and this address with it. This is the last mail from there.",
            "Jobs, results and credits that were recorded stay in the public log, under numbers and without your name.",
        ]
        mail_on_commit("Your account was deleted", words, person.email)
    for erasure in _erasures():
        erasure.person_erase(person=person)
    Session.objects.filter(session_key__in=UserSession.objects.filter(user=person).values("session_key")).delete()
    for model, column in _THEIRS:
        model._default_manager.filter(**{column: person}).delete()
    person.groups.clear()
    person.user_permissions.clear()
    person.username = f"{FORMER_NAME} {person.pk}"  # with spaces, which no name has that somebody signs up with
    person.email = person.first_name = person.last_name = person.display_name = person.about = ""
    person.is_public = person.is_active = False
    person.researcher_approved_at = person.last_login = None
    person.erased_at = timezone.now()
    person.set_unusable_password()
    person.save()
    return person


def _erasures() -> list[Erasure]:
    return [cast("Erasure", import_module(name)) for name in settings.NEXA_ERASURES]
