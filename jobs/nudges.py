"""Nudges after a commit: they make things happen now instead of at the next periodic run. Losing one loses nothing but time.

Waiting exchanges are woken at once. Tasks are sent by a thread of their own, a moment later and each once however often it was asked for:
a host that waits for an order, or a browser for an answer, shall not wait for the broker. Where much happens, one task serves what happened
in a quarter of a second: in a batch of hundreds, a job costs a fraction of what it does alone. Redis may be away; then the nudge is dropped
and logged, and beat's period is the delay.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import redis
from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

WAKE_CHANNEL = "nexa:wake"
"""Redis pub/sub channel on which waiting exchanges are woken; the message is a tier name."""


OUTBOX_DELAY_SECONDS: Final = 0.03
"""What is pushed to people may come this much later; an order to a host that was woken by the same commit goes first."""

BETWEEN_SECONDS: Final = 0.25
"""A process sends a task no sooner than this after it sent it last: at once when idle, and when busy for all that came meanwhile."""


def nudge_on_commit(nudge: Callable[[], None]) -> None:
    """Calls `nudge` after the commit, once for each transaction however often it is asked for.

    The call registered first stands for the later ones: as long as a savepoint around it may be rolled back, the later ones lie in it too.
    """
    if not any(registered is nudge for _, registered, *_ in connection.run_on_commit):
        transaction.on_commit(nudge)


def verification_nudge() -> None:
    """There are reported replicas to verify."""
    _sender.nudge("control.verification_dispatch", delay_seconds=0)


def outbox_nudge() -> None:
    """There are outbox rows to push."""
    _sender.nudge("control.outbox_push", delay_seconds=OUTBOX_DELAY_SECONDS)


def exchanges_wake(tiers: Iterable[str]) -> None:
    """Replicas of these tiers were queued, or a command waits for a host: let waiting exchanges look again."""
    try:
        for tier in set(tiers):
            redis_client(settings.NEXA_REDIS_URL).publish(WAKE_CHANNEL, tier)
    except redis.RedisError as error:
        log.warning("exchanges not woken, they look again by themselves: %s", error)


@cache
def redis_client(url: str) -> redis.Redis:
    """This process's connections: making one takes as long as a host's whole wait for an order should. One that died is made anew, once."""
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


class TaskSender:
    """Sends tasks from a daemon thread, which a process starts with its first nudge, after a fork too. What waits at the end is lost."""

    def __init__(self) -> None:
        self._waiting: dict[str, float] = {}
        self._sent_at: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def nudge(self, name: str, *, delay_seconds: float) -> None:
        """Have the task sent after so long, or BETWEEN_SECONDS after it was sent last, if it is not about to be sent anyway."""
        with self._changed:
            due = max(time.monotonic() + delay_seconds, self._sent_at.get(name, -math.inf) + BETWEEN_SECONDS)
            self._waiting.setdefault(name, due)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nexa-nudges", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or (left := min(self._waiting.values()) - time.monotonic()) > 0:
                    self._changed.wait(left if self._waiting else None)
                name = min(self._waiting, key=lambda one: self._waiting[one])
                del self._waiting[name]
                self._sent_at[name] = time.monotonic()
            task_send(name)


_sender = TaskSender()


def _sender_renew() -> None:
    """In a forked child: the parent's thread isn't there, and its lock may be held for ever."""
    global _sender  # noqa: PLW0603  one a process
    _sender = TaskSender()


os.register_at_fork(after_in_child=_sender_renew)


def task_send(name: str) -> None:
    """Hands the task to the broker, or logs that it can't be reached."""
    try:
        current_app.send_task(name, ignore_result=True, retry=False)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("%s not nudged, it runs at its next period: %s", name, error)
