"""Writes of people: API tokens, profiles, researchers' applications and approval. Teams are in people/team_services.py."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from ledger.services import start_grant_post
from people.errors import (
    ApplicationDecidedError,
    ApplicationOpenError,
    NameInvalidError,
    NameTakenError,
    ReasonMissingError,
    ResearcherAlreadyError,
    TokenExpiryPastError,
    TokenScopesInvalidError,
    TokensTooManyError,
)
from people.models import ABOUT_MAX, DISPLAY_NAME_MAX, ApiToken, ApplicationState, ResearcherApplication, Scope, User
from people.moderation.models import ActKind
from people.moderation.trail import act_record, interest_check, moderator_check
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write
from people.secret_digests import secret_sha256
from people.selectors import name_is_anothers

TOKEN_PREFIX: Final = "nexa_"  # noqa: S105  what every token starts with, so that scanners find leaked ones
TOKENS_PER_OWNER_MAX: Final = 100
LAST_USED_RESOLUTION: Final = timedelta(minutes=1)


@transaction.atomic
def token_mint(*, owner: User, name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """A new token of `owner` and its secret (`nexa_` and 43 characters), which is told here and never again.

    `scopes` are values of Scope, at least one; `expires_at` None: it lives until it is revoked.
    Raises TokenScopesInvalidError, TokenExpiryPastError, TokensTooManyError.
    """
    wanted = set(map(str, scopes))
    if not wanted or not wanted <= set(Scope.values):
        raise TokenScopesInvalidError(
            f"Expected one or more of {', '.join(Scope.values)}; found {', '.join(sorted(wanted))[:200] or 'none'}."
        )
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise TokenExpiryPastError(f"Expected a time after {now:%Y-%m-%dT%H:%M:%SZ}; give a later one, or none.")
    User.objects.select_for_update().get(pk=owner.pk)  # one mint at a time, so that the limit holds
    live = ApiToken.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), owner=owner, revoked_at=None)
    if live.count() >= TOKENS_PER_OWNER_MAX:
        raise TokensTooManyError(f"There are {TOKENS_PER_OWNER_MAX} live tokens of yours; revoke some first.")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        owner=owner,
        name=name,
        secret_sha256=secret_sha256(secret),
        scopes=sorted(wanted),
        expires_at=expires_at,
    )
    return token, secret


def token_revoke(*, token: ApiToken) -> ApiToken:
    """Ends the token at once; the first revocation's time stays. Idempotent."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    token.refresh_from_db()
    return token


def token_use_record(*, token: ApiToken, now: datetime) -> None:
    """Remembers when the token was last used, to the minute: a write for each request would be too dear."""
    if token.last_used_at is None or now - token.last_used_at >= LAST_USED_RESOLUTION:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


@transaction.atomic
def researcher_approve(*, user: User, approved_by: User | None, reason: str = "Approved without an application.") -> User:
    """Lets `user` submit jobs and posts their start grant from the treasury. Idempotent: approved twice, granted once.

    `approved_by` None: the operator, by a management command. Raises ModeratorInterestError, ReasonMissingError and as moderator_check.
    """
    if approved_by is not None:
        moderator_check(approved_by)
        interest_check(approved_by, in_account_of=user)
    locked = User.objects.select_for_update().get(pk=user.pk)
    if locked.researcher_approved_at is None:
        act_record(by=approved_by, kind=ActKind.RESEARCHER_APPROVED, about=locked, reason=reason)
        _researcher_make(locked)
    user.researcher_approved_at = locked.researcher_approved_at
    return user


def _researcher_make(locked: User) -> None:
    if locked.researcher_approved_at is None:
        locked.researcher_approved_at = timezone.now()
        locked.save(update_fields=["researcher_approved_at"])
        start_grant_post(user=locked)


def name_clean(*, name: str, characters_max: int) -> str:
    """`name` in one form (NFKC, single spaces); may be empty. Raises NameInvalidError for characters that don't show, and for length."""
    cleaned = " ".join(unicodedata.normalize("NFKC", name).split())
    if any(unicodedata.category(character).startswith("C") for character in cleaned):
        raise NameInvalidError("Expected letters, digits, signs and spaces; found a character that doesn't show. Write the name anew.")
    if len(cleaned) > characters_max:
        raise NameInvalidError(f"Expected at most {characters_max} characters, found {len(cleaned)}. Give a shorter name.")
    return cleaned


@transaction.atomic
def profile_change(*, user: User, display_name: str, about: str, is_public: bool) -> User:
    """What strangers see of `user`, and whether. An empty display name stands for the username.

    Raises NameInvalidError, NameTakenError: a display name is nobody else's username or display name.
    """
    name = name_clean(name=display_name, characters_max=DISPLAY_NAME_MAX)
    taken = NameTakenError(f"Somebody has the name {name!r} already. Choose another one.")
    if name and name_is_anothers(name=name, user=user):
        raise taken
    user.display_name, user.about, user.is_public = name, " ".join(about.split())[:ABOUT_MAX], is_public
    try:
        with transaction.atomic():
            user.save(update_fields=["display_name", "about", "is_public"])
    except IntegrityError as error:  # two at once; the database decides
        raise taken from error
    return user


@transaction.atomic
def application_submit(*, applicant: User, full_name: str, affiliation: str, purpose: str, link: str) -> ResearcherApplication:
    """`applicant` asks to be a researcher; moderators are told. Raises ResearcherAlreadyError, ApplicationOpenError."""
    locked = User.objects.select_for_update().get(pk=applicant.pk)
    if locked.is_researcher:
        raise ResearcherAlreadyError("There is nothing to apply for: this account may submit jobs.")
    if ResearcherApplication.objects.filter(applicant=locked, state=ApplicationState.OPEN).exists():
        raise ApplicationOpenError("A moderator has not decided on your last application yet. Wait for the mail with the decision.")
    application = ResearcherApplication.objects.create(
        applicant=locked, full_name=full_name, affiliation=affiliation, purpose=purpose, link=link
    )
    # Without their name: it would stay with the moderators after they have been erased.
    subject, path, key = "Somebody applies to be a researcher", "/admin/people/researcherapplication/", f"application:{application.pk}:open"
    moderators = User.objects.filter(is_staff=True, is_active=True).values_list("pk", flat=True)
    notifications_write([Draft(moderator, NotificationKind.MODERATION, key, subject, path) for moderator in moderators])
    return application


@transaction.atomic
def application_decide(*, application: ResearcherApplication, decided_by: User, is_approved: bool, reason: str) -> ResearcherApplication:
    """Ends an open application: the applicant becomes a researcher or is told why not, in the ways that they chose.

    Raises ModeratorInterestError, ApplicationDecidedError and as moderator_check; ReasonMissingError where it is declined without one.
    """
    moderator_check(decided_by)
    interest_check(decided_by, in_account_of=application.applicant)
    if not is_approved and not reason.strip():
        raise ReasonMissingError("Expected a reason, found none: the applicant reads it, and may apply again with what was missing.")
    locked = ResearcherApplication.objects.select_for_update().select_related("applicant").get(pk=application.pk)
    if locked.state != ApplicationState.OPEN:
        raise ApplicationDecidedError(f"It was {locked.state} at {locked.decided_at:%Y-%m-%d %H:%M} UTC; a decision stays as it was made.")
    locked.state = ApplicationState.APPROVED if is_approved else ApplicationState.DECLINED
    locked.reason, locked.decided_at, locked.decided_by = reason.strip(), timezone.now(), decided_by
    locked.save(update_fields=["state", "reason", "decided_at", "decided_by"])
    kind = ActKind.APPLICATION_APPROVED if is_approved else ActKind.APPLICATION_DECLINED
    act_record(by=decided_by, kind=kind, about=locked, reason=locked.reason or "As applied for.")
    if is_approved:
        _researcher_make(User.objects.select_for_update().get(pk=locked.applicant_id))
        subject, path, text = "You may submit jobs now", "/jobs/", "Your application was approved."
    else:
        subject, path, text = "Your application was declined", "/account/research/", "You may apply again."
    if locked.reason:
        text += f" The moderator wrote: {locked.reason}"
    notifications_write([Draft(locked.applicant_id, NotificationKind.APPLICATION, f"application:{locked.pk}", subject, path, text)])
    return locked
