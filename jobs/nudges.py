"""Nudges after a commit: they make things happen now instead of at the next periodic run. Losing one loses nothing but time.

Redis may be away; then the nudge is dropped and logged once, and beat's period is the delay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache

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


def nudge_on_commit(nudge: Callable[[], None]) -> None:
    """Calls `nudge` after the commit, once for each transaction however often it is asked for.

    The call registered first stands for the later ones: as long as a savepoint around it may be rolled back, the later ones lie in it too.
    """
    if not any(registered is nudge for _, registered, *_ in connection.run_on_commit):
        transaction.on_commit(nudge)


def verification_nudge() -> None:
    """There are reported replicas to verify."""
    _task_send("control.verification_dispatch")


def outbox_nudge() -> None:
    """There are outbox rows to push."""
    _task_send("control.outbox_push")


def exchanges_wake(tiers: Iterable[str]) -> None:
    """Replicas of these tiers were queued, or a command waits for a host: let waiting exchanges look again."""
    try:
        for tier in set(tiers):
            _redis(settings.NEXA_REDIS_URL).publish(WAKE_CHANNEL, tier)
    except redis.RedisError as error:
        log.warning("exchanges not woken, they look again by themselves: %s", error)


@cache
def _redis(url: str) -> redis.Redis:
    """This process's connections: making one takes as long as a host's whole wait for an order should. One that died is made anew, once."""
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


def _task_send(name: str) -> None:
    try:
        current_app.send_task(name, ignore_result=True, retry=False)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("%s not nudged, it runs at its next period: %s", name, error)
