"""Engines that misbehave: a wire to the real one that can be cut and is written down, and a small one that only answers who it is."""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

ENGINE_SOCKET = "/var/run/docker.sock"


class EngineWire:
    """Passes bytes between `url` and the real engine's socket, keeps what was asked in `asked`, until `cut`.

    `instead` are words of requests that the engine gets others for, of the same length: so it does something else than it was told.
    `unsaid` are words of its answers, likewise: so it says something else than it did. `cut_at`: a connection that asks so much is closed.
    """

    def __init__(self) -> None:
        self.asked = bytearray()
        self.instead: dict[bytes, bytes] = {}
        self.unsaid: dict[bytes, bytes] = {}
        self.cut_at: bytes | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def cut(self) -> None:
        """As when the engine dies: nothing more passes, and nobody listens. Twice is once."""
        with self._lock:
            self._open = False
            sockets = [self._listener, *self._sockets]
            for one in sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in sockets:
            one.close()

    def created(self) -> dict[str, Any]:
        """What the last request that created a container said."""
        start = bytes(self.asked).rindex(b"/containers/create")
        head, _, rest = bytes(self.asked)[start:].partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        found: dict[str, Any] = json.loads(rest[: int(length[1])])
        return found

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asking, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(ENGINE_SOCKET)
                with self._lock:
                    self._sockets += [asking, engine]
                    if not self._open:
                        return
                    self._start(self._pass, asking, engine, self.instead, self.asked)
                    self._start(self._pass, engine, asking, self.unsaid, bytearray())

    def _pass(self, source: socket.socket, target: socket.socket, instead: dict[bytes, bytes], kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept += data
                if self.cut_at is not None and self.cut_at in data:
                    break
                for word, other in instead.items():
                    data = data.replace(word, other)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def engine_telling(info: dict[str, Any], version: dict[str, Any], *, containers: dict[str, int] | None = None) -> Iterator[str]:
    """The address of an engine that answers /_ping, /info and /version, and knows nothing else.

    But for `containers`, by their ids: with what status it answers to removing one, which only a success does.
    """
    left = dict(containers or {})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked = path.rsplit("/", 1)[-1]
            listed = [{"Id": one, "Names": [f"/nexapod-{one}"]} for one in left] if path.endswith("/containers/json") else None
            answer = {"info": info, "version": version, "json": listed}.get(asked)
            body = json.dumps({"message": "no such page"} if answer is None else answer).encode()
            self._tell(*((200, b"OK") if asked == "_ping" else (404 if answer is None else 200, body)))

        def do_DELETE(self) -> None:
            container_id = self.path.partition("?")[0].rsplit("/", 1)[-1]
            status = left.get(container_id, 404)
            if status < 300:
                del left[container_id]
            self._tell(status, b'{"message": "device or resource busy"}')

        def _tell(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that the base class gives it
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def wire() -> Iterator[EngineWire]:
    made = EngineWire()
    yield made
    made.cut()
    gc.collect()  # the SDK leaves sockets to the collector when their other end vanishes: let them be found here
