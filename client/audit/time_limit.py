"""A time that one HTTP request may take in all: to connect, for the headers, and for the body.

The time-outs of a socket are for each read from it, and begin anew with every byte that comes; of status line, headers and the lengths of
chunks the standard library reads one line until it ends. So a server that drips would be waited for as long as it likes. Here the
connection is cut when the time is over, whatever is read from it then.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class TimeLimit:
    """Of one request, made within `time_limited`. `is_over`: its connection was cut, which its reader sees as some error or as an end."""

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._connected: socket.socket | None = None

    def connection_watch(self, connected: socket.socket | None) -> None:
        """The connection that the request goes over, from now on."""
        with self._lock:
            self._connected = connected
            if self.is_over:
                _cut(connected)

    def end(self) -> None:
        """Cuts the connection."""
        with self._lock:
            self.is_over = True
            _cut(self._connected)


_CURRENT: ContextVar[TimeLimit] = ContextVar("time limit of the request that this thread makes")


@contextmanager
def time_limited(seconds: float) -> Iterator[TimeLimit]:
    """Requests over a TimeLimitedAdapter in this block end within `seconds`."""
    limit = TimeLimit()
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    timer.start()
    before = _CURRENT.set(limit)
    try:
        yield limit
    finally:
        _CURRENT.reset(before)
        timer.cancel()
        limit.connection_watch(None)  # it may be another request's by the time that a timer which has just gone off gets to it


class TimeLimitedAdapter(HTTPAdapter):
    """For a session of `requests` that is used within `time_limited`, and nowhere else."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):  # a SOCKS one has connections of its own
            manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


class _HttpConnection(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _CURRENT.get().connection_watch(self.sock)


class _HttpsConnection(HTTPSConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _CURRENT.get().connection_watch(self.sock)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def _cut(connected: socket.socket | None) -> None:
    """A thread that waits for it reads its end. Of the plain socket, below TLS: a TLS one is not to be changed while another reads it."""
    if connected is not None:
        try:
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
        except OSError:
            """It is closed already."""
