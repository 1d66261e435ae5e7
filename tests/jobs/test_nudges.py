"""Nudges: they arrive where they should, and a broker that is away costs a moment and no exception."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
import redis
from celery import Celery, current_app
from django.conf import settings as django_settings
from django.db import transaction
from pytest_django import Settings

from jobs import nudges
from jobs.nudges import WAKE_CHANNEL, TaskSender, exchanges_wake, nudge_on_commit, outbox_nudge, task_send, verification_nudge


@pytest.fixture
def _queue_emptied() -> Iterator[None]:
    """Other tests commit too, and their nudges lie in the same queue."""
    _control_purge()
    yield
    _control_purge()


def _control_purge() -> None:
    with current_app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        channel.queue_purge("control")


@pytest.mark.usefixtures("_queue_emptied")
def test_nudge_is_a_task_on_the_control_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "_sender", TaskSender())  # which has sent nothing yet, so that neither task has to wait
    verification_nudge()
    outbox_nudge()
    with current_app.connection_for_write() as broker, broker.SimpleQueue("control") as queue:
        found = []
        for _ in range(2):
            message = queue.get(timeout=5)
            found.append(message.headers["task"])
            message.ack()
    assert found == ["control.verification_dispatch", "control.outbox_push"]


def test_waking_publishes_each_tier_once() -> None:
    with redis.Redis.from_url(django_settings.NEXA_REDIS_URL) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(WAKE_CHANNEL)
        listener.get_message(timeout=5)
        exchanges_wake(["cpu", "gpu-tier1", "cpu"])
        found = [message["data"] for _ in range(6) if (message := listener.get_message(timeout=0.3))]
    assert sorted(found) == [b"cpu", b"gpu-tier1"]


def test_redis_away_wakes_nobody_and_raises_nothing(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.NEXA_REDIS_URL = "redis://127.0.0.1:1"
    exchanges_wake(["cpu"])
    assert "exchanges not woken" in caplog.text


def test_broker_away_is_noticed_soon_and_raises_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
    away.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    monkeypatch.setattr(nudges, "current_app", away)
    started = time.monotonic()
    task_send("control.verification_dispatch")
    assert time.monotonic() - started < 3
    assert "control.verification_dispatch not nudged" in caplog.text


@pytest.mark.usefixtures("_queue_emptied")
def test_task_asked_for_often_is_sent_once_and_nobody_waits_for_it() -> None:
    sender = TaskSender()
    started = time.monotonic()
    for _ in range(100):
        sender.nudge("control.outbox_push", delay_seconds=0.2)
    assert time.monotonic() - started < 0.2
    with current_app.connection_for_write() as broker, broker.SimpleQueue("control") as queue:
        queue.get(timeout=5).ack()
        with pytest.raises(Empty):
            queue.get(timeout=0.5)
    assert time.monotonic() - started >= 0.2


@pytest.mark.usefixtures("_queue_emptied")
def test_task_asked_for_again_after_it_was_sent_waits_for_others_but_another_task_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "BETWEEN_SECONDS", 2.0)  # longer than a busy machine takes to get here again
    sender, began = TaskSender(), time.monotonic()
    sender.nudge("control.outbox_push", delay_seconds=0)
    with current_app.connection_for_write() as broker, broker.SimpleQueue("control") as queue:
        first = queue.get(timeout=5)
        first.ack()
        sender.nudge("control.outbox_push", delay_seconds=0)
        sender.nudge("control.verification_dispatch", delay_seconds=0)
        found = []
        for _ in range(2):
            message = queue.get(timeout=5)
            found.append(message.headers["task"])
            message.ack()
    assert found == ["control.verification_dispatch", "control.outbox_push"]
    assert time.monotonic() - began >= nudges.BETWEEN_SECONDS


def test_one_transaction_nudges_once_and_a_rolled_back_savepoint_takes_no_nudge_with_it(own_database: str) -> None:
    calls: list[int] = []

    def nudge() -> None:
        calls.append(1)

    with transaction.atomic():
        with pytest.raises(ValueError, match="undone"), transaction.atomic():  # noqa: PT012  the savepoint is the point
            nudge_on_commit(nudge)
            raise ValueError("undone")
        with transaction.atomic():
            nudge_on_commit(nudge)
        nudge_on_commit(nudge)
        assert calls == []
    assert calls == [1]
    with transaction.atomic():
        nudge_on_commit(nudge)
    assert calls == [1, 1]
