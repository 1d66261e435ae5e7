"""When a signed-in browser was last here: written now and then, and never for nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from channels.db import database_sync_to_async
from django.core.cache import cache
from django.db import connection
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from nexaportal.session_watch import is_due
from tests.factories.people import user_make

PAGE = "/docs/"


def signed_in() -> Client:
    client = Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    return client


def writes(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if "usersessions" in query["sql"]]


@pytest.mark.django_db
def test_a_session_is_listed_and_its_time_moves_when_that_is_due() -> None:
    client = signed_in()
    client.get(PAGE)
    assert not UserSession.objects.exists()  # its sign-in had it listed, or it began before there was a list
    cache.clear()  # as after SEEN_EVERY_SECONDS, or when Redis was flushed
    client.get(PAGE, REMOTE_ADDR="192.0.2.1", headers={"User-Agent": "Elinks"})
    row = UserSession.objects.get()
    assert (row.session_key, row.ip, row.user_agent) == (client.session.session_key, "192.0.2.1", "Elinks")
    earlier = timezone.now() - timedelta(hours=1)
    UserSession.objects.update(last_seen_at=earlier)
    client.get(PAGE)
    assert UserSession.objects.get().last_seen_at == earlier
    cache.clear()
    client.get(PAGE)
    assert timezone.now() - UserSession.objects.get().last_seen_at < timedelta(minutes=1)


@pytest.mark.django_db
def test_the_next_pages_cost_no_statement_about_sessions() -> None:
    client = signed_in()
    client.get(PAGE)
    with CaptureQueriesContext(connection) as queries:
        client.get(PAGE)
    assert writes(queries) == []


@pytest.mark.django_db
def test_whoever_is_not_signed_in_is_not_written() -> None:
    client = Client()
    client.cookies["sessionid"] = "made-up"
    cache.clear()
    with CaptureQueriesContext(connection) as queries:
        assert client.get(PAGE).status_code == 200
        Client().get(PAGE)
    assert writes(queries) == []
    assert not UserSession.objects.exists()


async def test_it_stands_in_asynchronous_chains_too(own_database: str) -> None:
    client = AsyncClient()
    await client.aforce_login(await database_sync_to_async(user_make)(), backend="django.contrib.auth.backends.ModelBackend")
    await cache.aclear()
    assert (await client.get(PAGE)).status_code == 200
    assert await UserSession.objects.acount() == 1
    assert (await AsyncClient().get("/healthz")).status_code == 200


def test_without_redis_nothing_is_due() -> None:
    nowhere: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}
    with override_settings(CACHES=nowhere):
        assert not is_due("a session")


@pytest.mark.django_db
def test_the_page_says_when_each_browser_was_last_here() -> None:
    client, other = signed_in(), signed_in()
    cache.clear()
    client.get(PAGE)
    row = UserSession.objects.get()
    other.get(PAGE)
    UserSession.objects.exclude(pk=row.pk).update(user=row.user, last_seen_at=timezone.now() - timedelta(hours=3))
    text = client.get("/accounts/sessions/").content.decode()
    assert "last here" in text
    assert ">now<" in text
    assert ">3 h ago<" in text
