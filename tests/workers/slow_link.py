"""A slow uplink: a relay on the loopback interface that takes only so many bytes a second and buffers little."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

_BUFFER_BYTES = 16 * 1024


class SlowLink:
    """`origin` leads to the portal at `target`, `bytes_per_second` slow on the way there. Use as a context manager."""

    def __init__(self, target: str, *, bytes_per_second: float) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._bytes_per_second = bytes_per_second
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        # Inherited by what it accepts: the sender must feel the link, not our memory.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (self._listener, *self._sockets):
            one.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._start(self._pass, near, far, self._bytes_per_second)
                self._start(self._pass, far, near, 1e12)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, bytes_per_second: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER_BYTES):
                time.sleep(len(data) / bytes_per_second)  # the link itself: not a wait for anything
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
