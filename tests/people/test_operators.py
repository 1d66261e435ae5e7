"""The first operator: an account without a password, and a link that sets one, once."""

from __future__ import annotations

from io import StringIO
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.test import Client

from people.models import User
from tests.factories.people import user_make

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


def invited(email: str = "ada@example.org", username: str = "ada") -> str:
    out = StringIO()
    call_command("operator_invite", email, "--username", username, stdout=out)
    return urlsplit(out.getvalue().strip()).path


def password_set(path: str) -> Client:
    """Opens the link as a browser does, and sets a password if it is asked for one."""
    client = Client()
    page = client.get(path, follow=True)
    client.post(page.request["PATH_INFO"], {"password1": PASSWORD, "password2": PASSWORD}, follow=True)
    return client


def test_the_link_sets_the_password_of_a_staff_member_with_every_permission_who_then_signs_in() -> None:
    password_set(invited())
    user = User.objects.get(username="ada")
    assert (user.is_staff, user.is_superuser, user.check_password(PASSWORD)) == (True, True, True)
    client = Client()
    client.post("/accounts/login/", {"login": "ada@example.org", "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk), "no mail had to confirm the address"


def test_a_link_is_good_once() -> None:
    path = invited()
    password_set(path)
    user = User.objects.get(username="ada")
    user.set_password("another one of theirs")
    user.save()
    password_set(path)
    user.refresh_from_db()
    assert user.check_password("another one of theirs")


def test_again_for_the_same_address_is_another_link_for_the_same_person() -> None:
    invited()
    password_set(invited(email="ADA@example.org", username="ignored"))
    assert User.objects.count() == 1
    assert User.objects.get().check_password(PASSWORD)
    assert EmailAddress.objects.filter(verified=True, primary=True).count() == 1


def test_a_name_that_somebody_else_has_is_refused() -> None:
    user_make("ada")
    with pytest.raises(CommandError, match="Somebody with another address is called 'ada'"):
        invited(email="other@example.org")


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(CommandError, match="Expected an e-mail address; found 'ada'"):
        invited(email="ada")


def test_a_link_by_hand_sets_the_password_of_who_has_the_address_and_confirms_it() -> None:
    user = user_make("marie")
    EmailAddress.objects.create(user=user, email=user.email, verified=False, primary=True)
    out = StringIO()
    call_command("password_link", user.email.upper(), stdout=out)
    password_set(urlsplit(out.getvalue().strip()).path)
    client = Client()
    client.post("/accounts/login/", {"login": "marie", "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk)
    user.refresh_from_db()
    assert not user.is_staff


def test_a_link_by_hand_for_an_address_that_nobody_has_is_refused() -> None:
    with pytest.raises(CommandError, match=r"Expected the address of somebody's account; found 'nobody@example\.org'"):
        call_command("password_link", "nobody@example.org")
