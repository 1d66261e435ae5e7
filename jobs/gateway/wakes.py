"""Waking exchanges that wait: one Redis subscription for each event loop, shared by all of its waiters.

A wake is a hint to look again, never a promise. Redis may be away: then waiters look by themselves each second, and the subscription is
tried again; when it is back, everybody looks once. Nothing is lost but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakKeyDictionary

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from jobs.nudges import WAKE_CHANNEL

POLL_SECONDS: Final = 10.0
"""How often a waiter looks by itself while the subscription stands."""

POLL_SECONDS_WITHOUT_REDIS: Final = 1.0
_SUBSCRIBE_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Waiter:
    """One waiting exchange."""

    def __init__(self, hub: WakeHub) -> None:
        self._hub = hub
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, timeout_seconds: float) -> None:
        """Returns when there may be something to do: woken, at `timeout_seconds`, or when it is time to look unasked."""
        poll_seconds = POLL_SECONDS if self._hub.is_subscribed else POLL_SECONDS_WITHOUT_REDIS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(timeout_seconds, poll_seconds))):
                await self._event.wait()
        self._event.clear()


class WakeHub:
    """The subscription and its waiters by tier. It runs while somebody waits."""

    def __init__(self, redis_url: str) -> None:
        self.is_subscribed = False
        self._redis_url = redis_url
        self._waiters: dict[str, set[Waiter]] = {}
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    @asynccontextmanager
    async def waiter(self, tiers: Iterable[str]) -> AsyncIterator[Waiter]:
        """A waiter for these tiers. What was published after this is entered wakes it, unless Redis is away."""
        one, names = Waiter(self), set(tiers)
        for name in names:
            self._waiters.setdefault(name, set()).add(one)
        self._waiting += 1
        if self._task is None:
            self._tried.clear()
            self._task = asyncio.create_task(self._listen())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                    await self._tried.wait()
            yield one
        finally:
            for name in names:
                self._waiters[name].discard(one)
            self._waiting -= 1
            if self._waiting == 0:
                await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        self.is_subscribed = False
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        has_missed = False
        while True:
            try:
                client = redis.asyncio.Redis.from_url(self._redis_url, socket_connect_timeout=1)
                async with client, client.pubsub() as subscription:
                    await subscription.subscribe(WAKE_CHANNEL)
                    async for message in subscription.listen():
                        if message["type"] == "subscribe":
                            self.is_subscribed = True
                            self._tried.set()
                            if has_missed:  # what was published while Redis was away
                                self._wake(set(self._waiters))
                        elif message["type"] == "message":
                            self._wake({message["data"].decode("utf-8", "replace")})
            except (RedisError, OSError) as error:
                log.warning("wakes are not heard, exchanges look each second: %s", error)
            self.is_subscribed, has_missed = False, True
            self._tried.set()
            await asyncio.sleep(POLL_SECONDS_WITHOUT_REDIS)

    def _wake(self, tiers: set[str]) -> None:
        for tier in tiers:
            for waiter in self._waiters.get(tier, ()):
                waiter.wake()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, WakeHub] = WeakKeyDictionary()
"""A subscription belongs to an event loop, and a server process has one; tests have many."""


def wake_hub() -> WakeHub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = WakeHub(settings.NEXA_REDIS_URL)
    return _hubs[loop]
