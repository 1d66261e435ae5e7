"""Signing in with an account from elsewhere, with a provider that speaks OpenID Connect over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.core.cache import cache
from django.test import Client, override_settings

from people.models import User
from tests.factories.people import user_make
from tests.people.openid_provider import OpenIdProvider, openid_provider

pytestmark = pytest.mark.django_db
PASSWORD = "as calm as paper 1900"
IRENE = {"sub": "17", "email": "irene@lab.example", "email_verified": True, "preferred_username": "irene", "name": "Irène Curie"}


@pytest.fixture
def lab() -> Iterator[OpenIdProvider]:
    cache.clear()
    with openid_provider(dict(IRENE)) as provider, override_settings(SOCIALACCOUNT_PROVIDERS=provider.providers):
        yield provider


def sent_to_the_lab(client: Client) -> str:
    """Where the button leads."""
    answer = client.post("/accounts/oidc/lab/login/")
    assert answer.status_code == 302
    return str(answer.headers["Location"])


def back_from_the_lab(address: str) -> str:
    """Where the lab sends who has said yes: a path of the portal."""
    answer = requests.get(address, allow_redirects=False, timeout=10)
    assert answer.status_code == 302, answer.text
    parts = urlsplit(answer.headers["Location"])
    assert parts.path == "/accounts/oidc/lab/login/callback/"
    return f"{parts.path}?{parts.query}"


def signed_in(client: Client) -> User | None:
    return User.objects.filter(pk=client.session.get("_auth_user_id", 0)).first()


def test_who_comes_for_the_first_time_gets_an_account_and_the_same_one_the_next_time(lab: OpenIdProvider) -> None:
    client = Client()
    client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True)
    user = signed_in(client)
    assert user is not None
    assert (user.username, user.email, user.has_usable_password()) == ("irene", "irene@lab.example", False)
    assert EmailAddress.objects.get(user=user).verified  # the lab says so
    again = Client()
    again.get(back_from_the_lab(sent_to_the_lab(again)), follow=True)
    assert signed_in(again) == user
    assert User.objects.count() == SocialAccount.objects.count() == 1


def test_an_address_that_the_lab_has_not_confirmed_is_confirmed_here_first(lab: OpenIdProvider) -> None:
    lab.person["email_verified"] = False
    client = Client()
    page = client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True)
    assert signed_in(client) is None
    assert urlsplit(page.request["PATH_INFO"]).path == "/accounts/confirm-email/"
    assert [one.to for one in mail.outbox] == [["irene@lab.example"]]


def test_an_address_of_somebody_who_is_here_opens_nothing_of_theirs(lab: OpenIdProvider) -> None:
    """Who runs a provider can claim any address."""
    here = user_make("irene-here")
    EmailAddress.objects.create(user=here, email="irene@lab.example", verified=True, primary=True)
    User.objects.filter(pk=here.pk).update(email="irene@lab.example")
    client = Client()
    client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True)
    assert signed_in(client) is None
    assert not SocialAccount.objects.exists()
    assert User.objects.count() == 1


def test_an_answer_to_somebody_elses_question_is_refused(lab: OpenIdProvider) -> None:
    """Else who sends a link could have others signed in as themselves."""
    attacker, victim = Client(), Client()
    path = back_from_the_lab(sent_to_the_lab(attacker))
    page = victim.get(path)
    assert page.status_code in {200, 401, 403}
    assert signed_in(victim) is None
    assert not User.objects.exists()


def test_a_code_is_worth_nothing_without_the_word_that_only_this_portal_knows(lab: OpenIdProvider) -> None:
    address = sent_to_the_lab(Client())
    code = dict(parse_qsl(urlsplit(back_from_the_lab(address)).query))["code"]
    form = {"grant_type": "authorization_code", "code": code, "client_id": "nexa", "client_secret": "known to both"}
    form["redirect_uri"] = dict(parse_qsl(urlsplit(address).query))["redirect_uri"]
    assert requests.post(f"{lab.origin}/token", data=form, timeout=10).status_code == 400


def test_who_says_no_at_the_lab_is_told_so(lab: OpenIdProvider) -> None:
    client = Client()
    state = dict(parse_qsl(urlsplit(sent_to_the_lab(client)).query))["state"]
    page = client.get("/accounts/oidc/lab/login/callback/?" + urlencode({"error": "access_denied", "state": state}), follow=True)
    assert page.status_code == 200
    assert signed_in(client) is None


def test_who_has_a_name_that_somebody_has_here_gets_one_alike(lab: OpenIdProvider) -> None:
    user_make("irene")
    client = Client()
    client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True)
    user = signed_in(client)
    assert user is not None
    assert user.username.startswith("irene")
    assert user.username != "irene"


def test_who_has_no_name_that_can_be_had_here_chooses_one(lab: OpenIdProvider) -> None:
    del lab.person["email"]
    client = Client()
    page = client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True).content.decode()
    assert "You come from The Lab" in page
    client.post("/accounts/3rdparty/signup/", {"email": "irene@home.example", "username": "irene-c"})
    assert signed_in(client) is None  # the address is confirmed first
    assert (User.objects.get().username, User.objects.get().email) == ("irene-c", "irene@home.example")


def test_who_is_here_connects_an_account_and_disconnects_it(lab: OpenIdProvider) -> None:
    user, client = user_make("irene-here"), Client()
    user.set_password(PASSWORD)
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert "None is connected." in client.get("/accounts/3rdparty/").content.decode()
    address = str(client.post("/accounts/oidc/lab/login/?process=connect").headers["Location"])
    client.get(back_from_the_lab(address), follow=True)
    account = SocialAccount.objects.get()
    assert account.user == user
    page = client.get("/accounts/3rdparty/").content.decode()
    assert "The Lab" in page
    assert f'value="{account.pk}"' in page
    other = Client()
    other.get(back_from_the_lab(sent_to_the_lab(other)), follow=True)
    assert signed_in(other) == user
    client.post("/accounts/3rdparty/", {"account": account.pk})
    assert not SocialAccount.objects.exists()


def test_the_last_way_in_is_not_disconnected(lab: OpenIdProvider) -> None:
    client = Client()
    client.get(back_from_the_lab(sent_to_the_lab(client)), follow=True)
    page = client.post("/accounts/3rdparty/", {"account": SocialAccount.objects.get().pk})
    assert "no password" in page.content.decode()
    assert SocialAccount.objects.exists()


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/userinfo"])
def test_a_lab_that_is_away_is_no_fault_of_ours(lab: OpenIdProvider, path: str) -> None:
    client = Client()
    if path.startswith("/.well"):
        lab.faults.add(path)
        answer = client.post("/accounts/oidc/lab/login/")
    else:
        back = back_from_the_lab(sent_to_the_lab(client))
        lab.faults.add(path)
        answer = client.get(back)
    assert answer.status_code < 500
    assert "The Lab" in answer.content.decode() or "elsewhere" in answer.content.decode()
    assert signed_in(client) is None
