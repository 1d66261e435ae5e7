"""Writes of invitations.

1. Where NEXA_SIGN_UP is `closed` nobody is invited, and no link that is about works.
2. A link goes to the address that it is for, or is told to the operator's terminal: moderators don't see it.
3. Who comes by a link signs up under that address, which counts as confirmed.
4. Whether an address has an account is told to moderators, who see all addresses, and to nobody else.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from people.errors import ActPointlessError, EmailInvalidError, InvitationInvalidError, SignUpClosedError
from people.forgetting import rows_forget
from people.invitations.models import Invitation
from people.mail import mail_on_commit, mail_server_is_missing
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record
from people.secret_digests import secret_sha256
from people.sign_up import SignUp


@transaction.atomic
def person_invite(*, email: str, by: User | None, reason: str) -> tuple[Invitation, str]:
    """An invitation for an address and its link, which is told here and never again. Again for the address: the link before stops working.

    `by` None: the operator, by a management command. Raises SignUpClosedError, EmailInvalidError, ActPointlessError where the address has
    an account, and as act_record.
    """
    if SignUp(settings.NEXA_SIGN_UP) is SignUp.CLOSED:
        raise SignUpClosedError("Nobody can sign up here, invited or not. The operator opens it: NEXA_SIGN_UP=invitation.")
    address = email.strip().lower()
    try:
        validate_email(address)
    except ValidationError as error:
        raise EmailInvalidError(f"Expected an e-mail address such as ada@example.edu; found {email[:80]!r}.") from error
    if User.objects.filter(email__iexact=address).exists() or EmailAddress.objects.filter(email__iexact=address).exists():
        raise ActPointlessError("There is an account with this address already: nobody need be invited.")
    secret, now = secrets.token_urlsafe(32), timezone.now()
    fields = {
        "secret_sha256": secret_sha256(secret),
        "invited_by": by,
        "created_at": now,
        "expires_at": now + timedelta(days=settings.NEXA_INVITATION_DAYS),
    }
    try:
        with transaction.atomic():
            invitation, _ = Invitation.objects.update_or_create(email=address, used_at=None, defaults=fields)
    except IntegrityError as error:  # two at once; the first has sent its link
        raise ActPointlessError("Somebody invites this address at this moment. Look at the list.") from error
    act_record(by=by, kind=ActKind.PERSON_INVITED, about=invitation, reason=reason)
    return invitation, settings.NEXA_ORIGIN + reverse("invitation", args=[secret])


@transaction.atomic
def person_invite_by_mail(*, email: str, by: User, reason: str) -> Invitation:
    """`person_invite`, with the link sent to the address. Raises as that does, and ActPointlessError where no mail can be sent."""
    if mail_server_is_missing():
        raise ActPointlessError(
            "This portal has no mail server, so the link would reach nobody. Ask its operator to set one up (NEXA_EMAIL_HOST), "
            "or to print the link: `manage.py person_invite`."
        )
    invitation, link = person_invite(email=email, by=by, reason=reason)
    words = [
        f"You are invited to {settings.NEXA_ORIGIN}, where people lend machines to science and have jobs computed on them.",
        f"This link makes one account, under this address, until {invitation.expires_at:%Y-%m-%d %H:%M} UTC:\n{link}",
        "If you don't know of this, do nothing: without the link there is no account.",
    ]
    mail_on_commit("You are invited", words, invitation.email)
    return invitation


@transaction.atomic
def invitation_withdraw(*, invitation: Invitation, by: User, reason: str) -> None:
    """Ends an invitation that nobody has used; its address is forgotten. Raises ActPointlessError and as act_record."""
    locked = Invitation.objects.select_for_update().filter(pk=invitation.pk, used_at=None).first()
    if locked is None:
        raise ActPointlessError("The invitation was used or withdrawn before. Who signed up is closed on the page of the person.")
    act_record(by=by, kind=ActKind.INVITATION_WITHDRAWN, about=locked, reason=reason)
    locked.delete()


@transaction.atomic
def invitation_use(*, secret: str, account: User) -> Invitation:
    """`account` has signed up by this link. In the transaction that makes the account. Raises InvitationInvalidError."""
    digest, now = secret_sha256(secret), timezone.now()
    live = Invitation.objects.select_for_update().filter(secret_sha256=digest, used_at=None, expires_at__gt=now).first()
    if live is None:
        raise InvitationInvalidError("The invitation was used, replaced or withdrawn, or has expired. Ask who invited you for another.")
    live.used_at, live.account = now, account
    live.save(update_fields=["used_at", "account"])
    return live


def invitations_forget(*, now: datetime) -> int:
    """Invitations that were used, or expired unused, NEXA_ENDED_DAYS ago."""
    before = now - timedelta(days=settings.NEXA_ENDED_DAYS)
    return rows_forget(Invitation.objects.filter(Q(used_at__lt=before) | Q(used_at=None, expires_at__lt=before)), order="expires_at")
