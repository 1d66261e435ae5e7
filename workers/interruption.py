"""A `requests` adapter whose blocked call another thread, or a signal handler, can end at once.

`requests` has no way to give up a call in progress, and a long poll may block for 25 seconds while the worker wants to stop. `interrupt`
shuts the TCP connection down underneath; the blocked call then fails as if the peer had gone.

An interruption counts from `call_begin` on, whether or not there is a connection yet: one that is made later is shut down at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


class InterruptibleAdapter(HTTPAdapter):
    """One connection at a time; `interrupt` may be called from anywhere, takes no lock and never raises."""

    def __init__(self) -> None:
        self._open: socket.socket | None = None
        self._since = 0
        self.interruptions = 0
        """How often `interrupt` was called."""
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Called by `requests`: a pool whose connections tell us their socket."""
        adapter = self

        class PlainConnection(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                adapter._opened(self.sock)

        class TlsConnection(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                adapter._opened(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = TlsConnection

        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool_kwargs)
        self._pool_classes = {"http": PlainPool, "https": TlsPool}
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Called by `requests` where the environment names a proxy: connections through it tell us their socket as well."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def call_begin(self, interruptions: int | None) -> None:
        """A call is made now. It is interrupted by whatever comes from here on or, if given, after the number of `interruptions`."""
        self._since = self.interruptions if interruptions is None else interruptions

    @property
    def is_interrupted(self) -> bool:
        """Whether the newest call is."""
        return self.interruptions != self._since

    def interrupt(self) -> None:
        """End the call in progress, if there is one; harmless otherwise, as a dead connection is made anew."""
        self.interruptions += 1  # before the look at the connection: one that is made meanwhile looks at this
        self._shut_down()

    def _opened(self, connection: socket.socket | None) -> None:
        self._open = connection
        if self.is_interrupted:
            self._shut_down()

    def _shut_down(self) -> None:
        found = self._open
        if found is None:
            return
        # A second handle on the same connection: the reading thread's own (TLS) object stays as it is.
        with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(found.fileno())) as handle:
            handle.shutdown(socket.SHUT_RDWR)
