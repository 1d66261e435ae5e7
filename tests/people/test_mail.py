"""Mails that nobody takes: no server was named, or the server refuses. Each page says what happened, and nothing breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import StringIO
from smtplib import SMTPServerDisconnected

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.core.mail import send_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.core.management import call_command
from django.test import Client, override_settings

from nexaportal.checks import mail_server_check
from people.errors import ActPointlessError
from people.invitations.models import Invitation
from people.invitations.services import person_invite_by_mail
from people.mail import MISSING_SERVER_BACKEND, MailServerMissingError
from people.models import User
from people.operators import operator_invite
from tests.factories.people import moderator_make, user_make

pytestmark = pytest.mark.django_db

PASSWORD = "as calm as paper 1900"
AWAY = "tests.people.test_mail.AwayBackend"


class AwayBackend(BaseEmailBackend):
    """A mail server that hangs up."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise SMTPServerDisconnected("Connection unexpectedly closed")


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


@pytest.fixture(params=[MISSING_SERVER_BACKEND, AWAY])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(EMAIL_BACKEND=request.param):
        yield request.param


def text_of(content: bytes) -> str:
    return re.sub(r"csrf\w+\" value=\"[^\"]+", "", content.decode())


def test_an_operators_first_password_is_set_and_the_page_says_that_no_mail_tells_of_it(backend: str) -> None:
    _, link = operator_invite(email="ada@example.org", username="ada")
    client = Client()
    page = client.get(link, follow=True)
    done = client.post(page.request["PATH_INFO"], {"password1": PASSWORD, "password2": PASSWORD}, follow=True)
    assert done.status_code == 200
    assert "The password is changed" in text_of(done.content)
    assert "It is done. No mail tells you of it" in text_of(done.content)
    assert User.objects.get(username="ada").check_password(PASSWORD)


def test_a_reset_ends_with_a_page_that_says_so_alike_whether_the_address_has_an_account(backend: str) -> None:
    person = user_make("marie")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    known = Client().post("/accounts/password/reset/", {"email": "marie@example.org"})
    unknown = Client().post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert (known.status_code, unknown.status_code) == (503, 503)
    assert "The mail could not be sent" in text_of(known.content)
    assert "Your password is as it was" in text_of(known.content)
    assert text_of(known.content) == text_of(unknown.content)


def test_who_signs_up_is_told_and_the_next_sign_in_sends_the_link() -> None:
    form = {"email": "lise@example.org", "username": "lise", "password1": PASSWORD, "password2": PASSWORD}
    with override_settings(EMAIL_BACKEND=AWAY):
        refused = Client().post("/accounts/signup/", form)
    assert refused.status_code == 503
    assert "What you entered is kept" in text_of(refused.content)
    assert "did not take it" in text_of(refused.content)
    answer = Client().post("/accounts/login/", {"login": "lise", "password": PASSWORD}, follow=True)
    assert "Confirm your e-mail address" in text_of(answer.content)
    assert [one.to for one in mail.outbox] == [["lise@example.org"]], "the mail that failed does not count as an attempt"


def test_sign_up_under_an_address_that_has_an_account_is_answered_alike(backend: str) -> None:
    person = user_make("marie")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    answers = [
        Client().post("/accounts/signup/", {"email": email, "username": "lise", "password1": PASSWORD, "password2": PASSWORD})
        for email in ("marie@example.org", "lise@example.org")
    ]
    assert [one.status_code for one in answers] == [503, 503]
    assert text_of(answers[0].content) == text_of(answers[1].content)


def test_another_address_waits_for_its_link(backend: str) -> None:
    person = user_make("marie")
    person.set_password(PASSWORD)
    person.save()
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    client = Client()
    client.post("/accounts/login/", {"login": "marie", "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    answer = client.post("/accounts/email/", {"action_add": "", "email": "curie@example.org"})
    assert answer.status_code == 503
    assert "not confirmed yet" in text_of(answer.content)


def test_a_moderators_invitation_is_refused_where_no_mail_can_bring_it() -> None:
    with override_settings(EMAIL_BACKEND=MISSING_SERVER_BACKEND), pytest.raises(ActPointlessError, match="no mail server"):
        person_invite_by_mail(email="new@example.org", by=moderator_make("mod"), reason="A colleague of ours.")
    assert not Invitation.objects.exists()


def test_a_missing_server_refuses_each_mail_unless_told_to_be_silent() -> None:
    with override_settings(EMAIL_BACKEND=MISSING_SERVER_BACKEND):
        with pytest.raises(MailServerMissingError, match="NEXA_EMAIL_HOST"):
            send_mail("subject", "text", None, ["ada@example.org"])
        assert send_mail("subject", "text", None, ["ada@example.org"], fail_silently=True) == 0


def test_the_deployment_check_names_a_missing_server_and_nothing_else() -> None:
    with override_settings(EMAIL_BACKEND=MISSING_SERVER_BACKEND):
        (found,) = mail_server_check()
    assert (found.id, "NEXA_EMAIL_HOST" in str(found.hint)) == ("nexaportal.W002", True)
    assert mail_server_check() == []


def test_the_first_command_says_beside_the_link_that_no_mail_is_sent() -> None:
    out, beside = StringIO(), StringIO()
    with override_settings(EMAIL_BACKEND=MISSING_SERVER_BACKEND):
        call_command("operator_invite", "ada@example.org", stdout=out, stderr=beside)
    assert len(out.getvalue().splitlines()) == 1
    assert "NEXA_EMAIL_HOST" in beside.getvalue()
