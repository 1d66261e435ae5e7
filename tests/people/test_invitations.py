"""Who may sign up: everybody, who was invited, or nobody; and what a stranger learns of it."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from people.errors import ActPointlessError, EmailInvalidError, InvitationInvalidError, SignUpClosedError
from people.invitations.models import Invitation
from people.invitations.selectors import SESSION_KEY
from people.invitations.services import invitation_use, invitation_withdraw, invitations_forget, person_invite, person_invite_by_mail
from people.models import User
from people.moderation.models import Act
from people.sign_in import ElsewhereAdapter
from tests.factories.people import moderator_make, user_make

pytestmark = pytest.mark.django_db

PASSWORD = "as calm as paper 1900"
BY_INVITATION = override_settings(NEXA_SIGN_UP="invitation")
CLOSED = override_settings(NEXA_SIGN_UP="closed")


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


def invited(email: str = "irene@example.org") -> str:
    """The path of a fresh link."""
    return urlsplit(person_invite(email=email, by=None, reason="For the course.")[1]).path


def signed_up(client: Client, email: str = "irene@example.org", username: str = "irene") -> Any:
    words = {"email": email, "username": username, "password1": PASSWORD, "password2": PASSWORD}
    return client.post("/accounts/signup/", words)


def words_of(path: str) -> str:
    return re.sub(r"\s+", " ", Client().get(path).content.decode())


# --- what the pages say --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said", "has_form"),
    [
        ("open", "Sign up</a>: it takes an e-mail address", True),
        ("invitation", "by invitation", False),
        ("closed", "Sign-up is closed", False),
    ],
)
def test_pages_say_who_may_sign_up(mode: str, said: str, has_form: bool) -> None:
    with override_settings(NEXA_SIGN_UP=mode):
        assert said in words_of("/")
        assert said in words_of("/accounts/login/")
        page = words_of("/accounts/signup/")
        assert ('name="password1"' in page) is has_form
        assert has_form or said in page


@pytest.mark.parametrize("mode", ["invitation", "closed"])
def test_without_an_invitation_nobody_signs_up_and_known_addresses_are_answered_like_others(mode: str) -> None:
    user_make("marie")
    with override_settings(NEXA_SIGN_UP=mode):
        known, unknown = signed_up(Client(), "marie@example.org"), signed_up(Client(), "irene@example.org")
    assert known.status_code == unknown.status_code == 200
    assert re.sub(r'name="csrf[^>]+', "", known.content.decode()) == re.sub(r'name="csrf[^>]+', "", unknown.content.decode())
    assert list(User.objects.values_list("username", flat=True)) == ["marie"]
    assert not mail.outbox


@pytest.mark.parametrize(("mode", "has_link"), [("open", True), ("invitation", False), ("closed", False)])
def test_the_mail_to_an_unknown_address_offers_signing_up_where_it_is_open(mode: str, has_link: bool) -> None:
    with override_settings(NEXA_SIGN_UP=mode):
        Client().post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert ("/accounts/signup/" in mail.outbox[0].body) is has_link


# --- the link ------------------------------------------------------------------------------------------------------------


@BY_INVITATION
def test_by_the_link_one_signs_up_once_under_the_address_that_was_invited() -> None:
    path, client = invited(), Client()
    assert client.get(path).headers["Location"] == "/accounts/signup/"
    page = client.get("/accounts/signup/").content.decode()
    assert 'value="irene@example.org"' in page
    assert signed_up(client, email="another@example.org").status_code == 302
    user = User.objects.get()
    assert (user.username, user.email) == ("irene", "irene@example.org"), "what was sent for the address is not looked at"
    assert list(EmailAddress.objects.values_list("email", "verified", "primary")) == [("irene@example.org", True, True)]
    assert client.session["_auth_user_id"] == str(user.pk), "the link came to that address: no mail has to confirm it"
    assert Invitation.objects.get().account == user
    assert Client().get(path).status_code == 404


@BY_INVITATION
def test_opening_the_link_uses_nothing_up() -> None:
    path = invited()
    for _ in range(3):
        assert Client().get(path).status_code == 302
    client = Client()
    client.get(path)
    assert signed_up(client).status_code == 302


@BY_INVITATION
def test_of_two_browsers_with_the_link_one_gets_an_account() -> None:
    path, first, second = invited(), Client(), Client()
    first.get(path)
    second.get(path)
    signed_up(first)
    assert signed_up(second, username="eve").status_code == 200
    assert User.objects.count() == 1


def test_an_invitation_that_ended_while_its_form_was_filled_in_makes_no_account() -> None:
    """Where sign-up is open the form is there for all, and the link says that an address is confirmed."""
    path, client = invited(), Client()
    client.get(path)
    Invitation.objects.update(expires_at=timezone.now())
    assert signed_up(client).status_code == 404
    assert not User.objects.exists()
    assert signed_up(client).status_code == 302, "the browser has forgotten the link, and sign-up is open"
    assert not EmailAddress.objects.get().verified


@BY_INVITATION
def test_links_that_are_over_are_answered_alike_as_ones_that_never_were() -> None:
    expired, replaced, withdrawn = invited("a@example.org"), invited("b@example.org"), invited("c@example.org")
    Invitation.objects.filter(email="a@example.org").update(expires_at=timezone.now())
    assert Client().get(invited("B@example.org")).status_code == 302
    invitation_withdraw(invitation=Invitation.objects.get(email="c@example.org"), by=moderator_make(), reason="A slip.")
    pages = [Client().get(path) for path in (expired, replaced, withdrawn, "/invitation/never/")]
    assert {page.status_code for page in pages} == {404}
    assert len({re.sub(r"/invitation/[^/]+", "", page.content.decode()) for page in pages}) == 1


def test_where_sign_up_is_closed_a_link_from_before_leads_to_a_page_that_says_so() -> None:
    path, client = invited(), Client()
    with CLOSED:
        assert "Sign-up is closed" in client.get(path, follow=True).content.decode()
        signed_up(client)
    assert not User.objects.exists()


@BY_INVITATION
def test_who_is_signed_in_is_led_to_their_account_and_the_link_stays_good() -> None:
    path, client = invited(), Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(path).headers["Location"] == "/account/"
    assert Client().get(path).status_code == 302


def test_the_secret_is_in_no_row() -> None:
    secret = invited().split("/")[2]
    assert secret.encode() not in bytes(Invitation.objects.get().secret_sha256)
    assert len(Invitation.objects.get().secret_sha256) == 32


def test_a_used_invitation_is_used_by_nobody_else() -> None:
    secret = invited().split("/")[2]
    invitation_use(secret=secret, account=user_make())
    with pytest.raises(InvitationInvalidError, match="Ask who invited you"):
        invitation_use(secret=secret, account=user_make())


# --- inviting ------------------------------------------------------------------------------------------------------------


@BY_INVITATION
def test_a_moderator_invites_by_mail_and_does_not_see_the_link(django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks) -> None:
    moderator, client = moderator_make("grace"), Client()
    client.force_login(moderator, backend="django.contrib.auth.backends.ModelBackend")
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(
            "/admin/people/invitation/do/invite/", {"email": "Irene@example.org", "reason": "For the course."}, follow=True
        )
    (sent,) = mail.outbox
    link = re.search(r"/invitation/[\w-]+/", str(sent.body))
    assert sent.to == ["irene@example.org"]
    assert link is not None
    assert link[0] not in answer.content.decode()
    act = Act.objects.get()
    assert (act.kind, act.by, act.about_name) == ("person_invited", moderator, f"invitation {Invitation.objects.get().pk}")
    assert Client().get(link[0]).status_code == 302


def test_people_who_have_an_account_are_not_invited() -> None:
    user = user_make("marie")
    EmailAddress.objects.create(user=user, email="second@example.org", verified=False, primary=False)
    for address in ("MARIE@example.org", "second@example.org"):
        with pytest.raises(ActPointlessError, match="account with this address"):
            person_invite(email=address, by=None, reason="x")


@pytest.mark.parametrize("address", ["", "irene", "irene@", "a b@example.org"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(EmailInvalidError, match="Expected an e-mail address"):
        person_invite(email=address, by=None, reason="x")


@CLOSED
def test_where_sign_up_is_closed_nobody_is_invited() -> None:
    with pytest.raises(SignUpClosedError, match="NEXA_SIGN_UP"):
        person_invite_by_mail(email="irene@example.org", by=moderator_make(), reason="x")
    with pytest.raises(CommandError, match="NEXA_SIGN_UP"):
        call_command("person_invite", "irene@example.org")


@BY_INVITATION
def test_the_command_prints_a_link_that_works_and_sends_no_mail(django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks) -> None:
    out = StringIO()
    with django_capture_on_commit_callbacks(execute=True):
        call_command("person_invite", "irene@example.org", stdout=out)
    assert Client().get(urlsplit(out.getvalue().strip()).path).status_code == 302
    assert not mail.outbox
    assert Act.objects.get().by is None


def test_a_used_invitation_is_not_withdrawn() -> None:
    secret = invited().split("/")[2]
    used = invitation_use(secret=secret, account=user_make())
    with pytest.raises(ActPointlessError, match="used or withdrawn"):
        invitation_withdraw(invitation=used, by=moderator_make(), reason="x")


def test_the_database_refuses_a_second_unused_invitation_for_an_address() -> None:
    invited()
    first = Invitation.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Invitation.objects.create(email="IRENE@example.org", secret_sha256=b"x", created_at=first.created_at, expires_at=first.expires_at)


def test_invitations_are_forgotten_long_after_they_were_used_or_expired() -> None:
    invitation_use(secret=invited("a@example.org").split("/")[2], account=user_make())
    invited("b@example.org")
    now = timezone.now()
    assert invitations_forget(now=now + timedelta(days=89)) == 0
    assert invitations_forget(now=now + timedelta(days=91)) == 1
    assert invitations_forget(now=now + timedelta(days=98)) == 1


# --- with an account from elsewhere --------------------------------------------------------------------------------------

LAB = {"provider_id": "lab", "name": "The Lab", "client_id": "nexa", "secret": "x", "settings": {"server_url": "https://lab.example"}}


def comes_from_elsewhere(client: Client) -> None:
    """As after signing in at the Lab, which told an address: the form waits for the rest."""
    session = client.session
    provider = get_adapter().get_provider(RequestFactory().get("/"), "lab")
    login = SocialLogin(user=User(email="irene@lab.example"), account=SocialAccount(provider="lab", uid="17"), provider=provider)
    session["socialaccount_sociallogin"] = login.serialize()
    session.save()


@BY_INVITATION
@override_settings(SOCIALACCOUNT_PROVIDERS={"openid_connect": {"APPS": [LAB]}})
def test_who_comes_from_elsewhere_needs_an_invitation_too_and_has_its_address() -> None:
    path, client = invited(), Client()
    comes_from_elsewhere(client)
    assert "by invitation" in client.get("/accounts/3rdparty/signup/").content.decode()
    client.post("/accounts/3rdparty/signup/", {"email": "irene@lab.example", "username": "irene"})
    assert not User.objects.exists()
    client.get(path)
    assert 'value="irene@example.org"' in client.get("/accounts/3rdparty/signup/").content.decode()
    client.post("/accounts/3rdparty/signup/", {"email": "irene@lab.example", "username": "irene"})
    assert User.objects.get().email == "irene@example.org"
    assert SocialAccount.objects.get().user == Invitation.objects.get().account == User.objects.get()


@BY_INVITATION
def test_who_was_invited_and_comes_from_elsewhere_sees_the_form_before_there_is_an_account() -> None:
    path, client = invited(), Client()
    login = SocialLogin(user=User(email="irene@lab.example"), account=SocialAccount(provider="lab", uid="17"))
    client.get(path)
    request = RequestFactory().get("/")
    request.session = client.session
    assert not ElsewhereAdapter(request).is_auto_signup_allowed(request, login)
    del request.session[SESSION_KEY]
    assert ElsewhereAdapter(request).is_auto_signup_allowed(request, login)
