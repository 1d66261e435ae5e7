"""A server that answers what a test tells it to, and remembers what it was asked: for what a sound portal never does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What to send. `body_cut` bytes of the announced body are kept back, and the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    body_cut: int = 0


def json_answer(document: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


def problem_answer(status: int, code: str, title: str = "No", detail: str = "") -> Answer:
    return json_answer({"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}, status)


class ScriptedPortal:
    """Answers each request by `script(asked)`."""

    def __init__(self, script: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        self.script = script
        portal = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                portal.asked.append(asked)
                answer = portal.script(asked)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body[: len(answer.body) - answer.body_cut])
                if answer.body_cut:
                    self.close_connection = True

            do_GET = do_POST = do_HEAD = do_PATCH = _serve  # noqa: N815 -- the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the one overridden
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def scripted_portal(script: Callable[[Asked], Answer]) -> Iterator[ScriptedPortal]:
    """A running scripted portal, gone after the block."""
    portal = ScriptedPortal(script)
    thread = threading.Thread(target=portal.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield portal
    finally:
        portal.server.shutdown()
        portal.server.server_close()
        thread.join()
