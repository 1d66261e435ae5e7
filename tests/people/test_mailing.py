"""Notifications by mail: what comes together goes together, and a mail server that is away or refuses loses nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.mail.message import EmailMessage
from django.test import override_settings
from django.utils import timezone

from people.mail import MISSING_SERVER_BACKEND
from people.models import User
from people.notifications import mailing
from people.notifications.mailing import GIVEN_UP_AFTER, TOGETHER_FOR, mails_send
from people.notifications.models import MailDelivery, Notification, NotificationKind
from people.notifications.services import Draft, notifications_write
from tests.factories.people import user_make

pytestmark = pytest.mark.django_db


class MoodyBackend(EmailBackend):
    """A mail server that does with each mail what `answer` does: None takes it, an exception is raised."""

    answer: Callable[[EmailMessage], Exception | None] = staticmethod(lambda message: None)
    asked = 0

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        type(self).asked += 1
        for message in email_messages:
            if error := type(self).answer(message):
                raise error
        return super().send_messages(email_messages)


@pytest.fixture
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> type[MoodyBackend]:
    settings.EMAIL_BACKEND = f"{__name__}.MoodyBackend"
    monkeypatch.setattr(MoodyBackend, "asked", 0)
    monkeypatch.setattr(MoodyBackend, "answer", staticmethod(lambda message: None))
    return MoodyBackend


def tell(owner: User, number: int = 1, *, kind: NotificationKind = NotificationKind.JOB_FAILED, subject: str = "") -> None:
    notifications_write([Draft(owner.pk, kind, f"{kind}:{number}", subject or f"fold-{number}: failed", f"/jobs/{number}/", "No host.")])


def aged(by: timedelta) -> None:
    """As if all that was told had been told so long ago."""
    Notification.objects.update(created_at=timezone.now() - by)
    MailDelivery.objects.filter(next_at__isnull=False).update(next_at=timezone.now() - by)


def test_the_first_goes_at_once_with_where_it_leads_and_how_to_end_it() -> None:
    owner = user_make("ada")
    tell(owner)
    assert (mails_send(), mails_send()) == (1, 0)
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["ada@example.org"], "[NEXAPod] fold-1: failed")
    assert sent.body.startswith("No host.\n\nhttp://testserver/jobs/1/\n")
    assert "http://testserver/notifications/settings/" in sent.body
    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"


def test_what_comes_soon_after_about_the_same_goes_together_later() -> None:
    owner, now = user_make(), timezone.now()
    tell(owner)
    assert mails_send() == 1
    for number in (2, 3, 4):
        tell(owner, number)
    tell(owner, kind=NotificationKind.JOB_COMPLETED, subject="fold-9: completed")
    assert mails_send() == 1, "what is about something else does not wait"
    assert mails_send(now=now + TOGETHER_FOR / 2) == 0
    assert mails_send(now=now + TOGETHER_FOR + timedelta(minutes=1)) == 1
    assert [sent.subject for sent in mail.outbox] == [
        "[NEXAPod] fold-1: failed",
        "[NEXAPod] fold-9: completed",
        "[NEXAPod] 3 notifications about jobs that failed",
    ]
    assert all(f"fold-{number}: failed\nhttp://testserver/jobs/{number}/" in mail.outbox[-1].body for number in (2, 3, 4))
    assert not MailDelivery.objects.filter(next_at__isnull=False).exists()


def test_a_long_list_says_how_many_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailing, "LISTED", 2)
    monkeypatch.setattr(mailing, "TOGETHER_MAX", 4)
    owner = user_make()
    for number in range(6):
        tell(owner, number)
    assert mails_send() == 1
    assert mail.outbox[0].subject == "[NEXAPod] 4 notifications about jobs that failed"
    assert "And 2 more: http://testserver/notifications/" in mail.outbox[0].body
    assert MailDelivery.objects.filter(next_at__isnull=False).count() == 2


def test_a_server_that_is_away_is_asked_again_and_nothing_is_lost(server: type[MoodyBackend], caplog: pytest.LogCaptureFixture) -> None:
    owners = [user_make() for _ in range(3)]
    for owner in owners:
        tell(owner)
    server.answer = staticmethod(lambda message: SMTPServerDisconnected("gone"))
    with caplog.at_level(logging.WARNING, "people.notifications.mailing"):
        assert mails_send() == 0
    assert "the mail server is away" in caplog.text
    assert server.asked == 1, "the next would fare no better"
    server.answer = staticmethod(lambda message: None)
    assert mails_send() == 2
    assert mails_send(now=timezone.now() + mailing.AWAY_RETRY) == 1
    assert {sent.to[0] for sent in mail.outbox} == {owner.email for owner in owners}


def test_a_server_that_nobody_answers_for_keeps_the_mail(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    tell(user_make())
    assert mails_send() == 0
    assert MailDelivery.objects.filter(next_at__gt=timezone.now(), refusals=0).count() == 1


def test_a_refused_address_keeps_no_other_mail_and_is_tried_later_each_time(server: type[MoodyBackend]) -> None:
    bad, good = user_make("bad"), user_make("good")
    tell(bad)
    tell(good)

    def answer(message: EmailMessage) -> Exception | None:
        return SMTPRecipientsRefused({message.to[0]: (550, b"no")}) if message.to == [bad.email] else None

    server.answer = staticmethod(answer)
    assert mails_send() == 1
    assert [sent.to for sent in mail.outbox] == [[good.email]]
    waits = []
    while (waiting := MailDelivery.objects.get(owner=bad)).next_at:
        now = waiting.next_at
        mails_send(now=now)
        waiting.refresh_from_db()
        if waiting.next_at:
            waits.append(waiting.next_at - now)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (4 * mailing.REFUSED_RETRY, mailing.REFUSED_RETRY_MAX)
    assert 10 < waiting.refusals < 20, "in three days"


def test_what_could_not_be_sent_for_days_is_given_up_and_stands_in_the_portal(server: type[MoodyBackend]) -> None:
    tell(user_make())
    aged(GIVEN_UP_AFTER)
    server.answer = staticmethod(lambda message: SMTPServerDisconnected("gone"))
    mails_send()
    assert MailDelivery.objects.get().next_at is None
    assert MailDelivery.objects.get().sent_at is None
    assert Notification.objects.count() == 1
    assert mails_send(now=timezone.now() + timedelta(days=30)) == 0


@pytest.mark.parametrize("change", [{"is_active": False}, {"email": ""}])
def test_whoever_can_no_longer_be_mailed_is_not(change: dict[str, Any], server: type[MoodyBackend]) -> None:
    owner = user_make()
    tell(owner)
    User.objects.filter(pk=owner.pk).update(**change)
    assert mails_send() == 0
    assert server.asked == 0
    assert MailDelivery.objects.get().next_at is None


def test_the_address_is_the_one_of_the_moment() -> None:
    owner = user_make()
    tell(owner)
    User.objects.filter(pk=owner.pk).update(email="new@example.org")
    mails_send()
    assert [sent.to for sent in mail.outbox] == [["new@example.org"]]


def test_a_subject_of_several_lines_and_an_address_that_is_none_stop_nothing() -> None:
    odd, other = user_make("odd"), user_make("other")
    User.objects.filter(pk=odd.pk).update(email="a@b\nBcc: c@example.org")
    tell(odd)
    tell(other, subject="fold\r\nBcc: c@example.org")
    assert mails_send() == 1
    assert [(sent.to, sent.subject) for sent in mail.outbox] == [([other.email], "[NEXAPod] fold Bcc: c@example.org")]


def test_a_portal_without_a_mail_server_collects_no_mails() -> None:
    with override_settings(EMAIL_BACKEND=MISSING_SERVER_BACKEND):
        tell(user_make())
    assert Notification.objects.count() == 1
    assert not MailDelivery.objects.exists()


def test_what_another_process_has_claimed_is_not_sent_too(server: type[MoodyBackend]) -> None:
    tell(user_make())
    inner: list[int] = []

    def answer(message: EmailMessage) -> Exception | None:
        if not inner:
            inner.append(-1)
            inner[0] = mails_send()
        return None

    server.answer = staticmethod(answer)
    assert mails_send() == 1
    assert inner == [0]
    assert len(mail.outbox) == 1
