"""Database work of async views: in a thread, with a connection only for as long as the function runs.

As channels.db.database_sync_to_async, but a connection inside a transaction is left alone: there it is the caller's, who may be a test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")


def in_database(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """`function` as a coroutine function. Afterwards its connection is given back to the pool, or closed where there is none."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        _connections_tidy()
        try:
            return function(*args, **kwargs)
        finally:
            _connections_tidy()

    return sync_to_async(run)


def _connections_tidy() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
