"""What has had its time is forgotten, a batch at a time; what has not stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from nexaportal import housekeeping
from nexaportal.housekeeping import HOUSEKEEPING, house_keep
from nexaportal.tasks import house_keep as house_keep_task
from nodes.models import JoinToken
from nodes.services import join_token_create
from people import forgetting
from people.models import ApiToken
from people.notifications.models import Notification, Webhook, WebhookDelivery
from people.services import token_mint
from tests.factories.people import user_make

pytestmark = pytest.mark.django_db


def later(days: float) -> datetime:
    return timezone.now() + timedelta(days=days)


def test_expired_sessions_go_with_what_the_account_page_knew_of_them() -> None:
    client = Client()
    client.force_login(user_make())
    client.get("/account/")
    key = client.session.session_key
    UserSession.objects.update_or_create(session_key=key, defaults={"user": user_make(), "ip": "127.0.0.1"})
    assert house_keep(now=timezone.now())["browser sessions"] == 0
    assert house_keep(now=later(15))["browser sessions"] == 1
    assert not Session.objects.exists()
    assert not UserSession.objects.exists()


def test_api_tokens_go_long_after_they_ended() -> None:
    user, now = user_make(), timezone.now()
    live, _ = token_mint(owner=user, name="live", scopes=["jobs:read"])
    expiring, _ = token_mint(owner=user, name="expiring", scopes=["jobs:read"], expires_at=now + timedelta(days=1))
    revoked, _ = token_mint(owner=user, name="revoked", scopes=["jobs:read"])
    ApiToken.objects.filter(pk=revoked.pk).update(revoked_at=now)
    assert house_keep(now=later(89))["API tokens"] == 0
    assert house_keep(now=later(90.5))["API tokens"] == 1
    assert set(ApiToken.objects.all()) == {live, expiring}
    assert house_keep(now=later(92))["API tokens"] == 1


def test_join_tokens_go_long_after_they_expired() -> None:
    join_token_create(owner=user_make(), lifetime_seconds=3600, name="")
    assert house_keep(now=later(90))["join tokens"] == 0
    assert house_keep(now=later(91))["join tokens"] == 1
    assert not JoinToken.objects.exists()


def test_notifications_go_with_their_deliveries(settings: Any) -> None:
    user = user_make()
    told = Notification.objects.create(owner=user, kind="webhook", key="k", subject="s", path="/")
    WebhookDelivery.objects.create(webhook=Webhook.objects.create(owner=user, url="https://example.org", salt=b""), notification=told)
    assert house_keep(now=later(179))["notifications"] == 0
    settings.NEXA_NOTIFICATION_DAYS = 0
    assert house_keep(now=later(9999))["notifications"] == 0
    settings.NEXA_NOTIFICATION_DAYS = 180
    assert house_keep(now=later(181))["notifications"] == 1
    assert not WebhookDelivery.objects.exists()


def test_a_call_forgets_a_bounded_number_and_the_next_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "BATCH_ROWS", 3)
    monkeypatch.setattr(forgetting, "BATCHES_MAX", 2)
    for number in range(7):
        Session.objects.create(session_key=f"key{number}", session_data="", expire_date=timezone.now() - timedelta(hours=number + 1))
    assert forgetting.sessions_forget(now=timezone.now()) == 6
    assert Session.objects.get().session_key == "key0", "the oldest go first"
    assert forgetting.sessions_forget(now=timezone.now()) == 1


def test_a_line_that_fails_holds_no_other_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*, now: datetime) -> int:
        raise RuntimeError("no")

    monkeypatch.setitem(housekeeping.HOUSEKEEPING, "browser sessions", fail)
    forgotten = house_keep(now=timezone.now())
    assert forgotten.keys() == HOUSEKEEPING.keys() - {"browser sessions"}
    assert "browser sessions could not be forgotten" in caplog.text


def test_beat_has_the_table_gone_through() -> None:
    assert house_keep_task.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    house_keep_task()
