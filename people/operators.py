"""What is made on the machine that the portal runs on: its operators, staff with every permission, and links to set a password."""

from __future__ import annotations

from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from people.errors import NameTakenError
from people.models import User
from people.sign_in import SecondFactorAdapter


@transaction.atomic
def operator_invite(*, email: str, username: str) -> tuple[User, str]:
    """The person with this address as an operator, made under `username` if there is none, and a link at which they set their password.

    The link is good once, until a password is set or PASSWORD_RESET_TIMEOUT (three days) is over; who has it is the operator, so it is
    told here and never again. Again for the same address: another link. Raises NameTakenError.
    """
    user = User.objects.select_for_update().filter(email__iexact=email).first()
    if user is None:
        if User.objects.filter(username__iexact=username).exists():
            raise NameTakenError(f"Somebody with another address is called {username!r}. Give --username another name.")
        user = User.objects.create_user(username, email=email)  # without a password nobody can sign in
    user.is_staff = user.is_superuser = user.is_active = True
    user.save(update_fields=["is_staff", "is_superuser", "is_active"])
    _address_vouch(user, email)
    return user, _password_link(user)


@transaction.atomic
def password_link(*, email: str) -> str:
    """A link, good once, at which who has this address sets a password; for where no mail brings it. Raises LookupError."""
    address = EmailAddress.objects.select_related("user").filter(email__iexact=email, user__is_active=True).order_by("-verified").first()
    if address is None:
        raise LookupError(f"Expected the address of somebody's account; found {email!r}. `manage.py person_invite` invites who has none.")
    _address_vouch(address.user, address.email)
    return _password_link(address.user)


@transaction.atomic
def second_factors_remove(*, email: str) -> int:
    """Removes all second factors of who has this address, whose password is enough then; returns how many. Raises LookupError."""
    user = User.objects.filter(emailaddress__email__iexact=email).first()
    if user is None:
        raise LookupError(f"Expected the address of somebody's account; found {email!r}.")
    return int(Authenticator.objects.filter(user=user).delete()[0])


@transaction.atomic
def second_factors_unreadable_remove() -> int:
    """Removes the second factors whose secrets the portal's secret key does not open, with their recovery codes; returns how many."""
    adapter = SecondFactorAdapter()
    secrets = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}
    unreadable = [
        one.pk
        for one in Authenticator.objects.filter(type__in=secrets)
        if (sealed := one.data.get(secrets[Authenticator.Type(one.type)])) and not adapter.is_readable(sealed)
    ]
    return int(Authenticator.objects.filter(pk__in=unreadable).delete()[0])


def _address_vouch(user: User, email: str) -> None:
    """Whoever runs commands here vouches for the address: there may be no mail yet by which it could be confirmed."""
    if not EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists():
        EmailAddress.objects.filter(user=user).update(primary=False)
        EmailAddress.objects.update_or_create(user=user, email=email.lower(), defaults={"verified": True, "primary": True})


def _password_link(user: User) -> str:
    key = {"uidb36": user_pk_to_url_str(user), "key": default_token_generator.make_token(user)}
    return settings.NEXA_ORIGIN + reverse("account_reset_password_from_key", kwargs=key)
