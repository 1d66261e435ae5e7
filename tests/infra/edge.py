"""The proxy of compose.yaml in a network of its own, before a `web` that does what a test wants; and what a client gets from there."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import docker
from docker.models.containers import Container

from devstack.images import tiny_image_ensure
from nexaportal.secret_files import secret_files_make

HOSTNAME: Final = "nexapod.test"
USER_ID: Final = 10001
LIMIT_SECONDS: Final = 60
_WEB: Final = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = int(self.path.rpartition("/")[2]) if self.path.rpartition("/")[2].isdigit() else 200
        body = b"web says %d" % status
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""Answers with the status that the path ends with."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Edge:
    """Proxy and, while it is started, `web`. Everything has names of this object's own, and goes when it is left."""

    def __init__(self, client: docker.DockerClient, image: str, folder: Path, *, configuration: Path | None = None) -> None:
        """`folder`: for the secrets. `configuration`: another nginx.conf than the image's."""
        self._client = client
        self._stack = contextlib.ExitStack()
        self._name = f"nexapod-edge-{uuid.uuid4().hex[:8]}"
        secret_files_make(folder=folder, hostname=HOSTNAME, owner=USER_ID)
        self.network = client.networks.create(self._name)
        self._stack.callback(self.network.remove)
        self.web = self.container("web", tiny_image_ensure(client), ["python3", "-c", _WEB], aliases=["web"])
        self.volume = client.volumes.create(self._name)
        self._stack.callback(self.volume.remove)
        self.proxy = self.container(
            "proxy",
            image,
            aliases=[HOSTNAME],
            ports={"443/tcp": ("127.0.0.1", None)},
            sysctls={"net.ipv4.ip_unprivileged_port_start": 0},
            volumes=[
                f"{folder / 'tls'}:/run/tls:ro",
                f"{self._name}:/var/lib/acme:ro",
                *([f"{configuration}:/etc/nexa/nginx.conf:ro"] if configuration else []),
            ],
        )
        self.proxy.reload()
        self.port = int(self.proxy.attrs["NetworkSettings"]["Ports"]["443/tcp"][0]["HostPort"])
        eventually(self.certificate, "the proxy takes connections")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def container(self, name: str, image: str, command: list[str] | None = None, *, aliases: list[str], **options: Any) -> Container:
        """A container of the network, confined as compose.yaml does it. It is removed when this is left."""
        container = self._client.containers.create(
            image,
            command,
            name=f"{self._name}-{name}",
            init=True,
            user=f"{USER_ID}:{USER_ID}",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            tmpfs={"/tmp": "size=64m,mode=1777"},  # noqa: S108  # within the container
            network=self._name,
            networking_config={self._name: self._client.api.create_endpoint_config(aliases=aliases)},
            **options,
        )
        self._stack.callback(container.remove, force=True, v=True)
        container.start()
        return container

    def ask(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
        """One request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body=body, headers={"Host": HOSTNAME, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=LIMIT_SECONDS)

    def certificate(self) -> bytes:
        """What the proxy shows now, DER."""
        connection = self.connection()
        try:
            connection.connect()
            return bytes(connection.sock.getpeercert(binary_form=True) or b"")
        finally:
            connection.close()


def eventually(ask: Callable[[], Any], what: str, *, limit_seconds: float = LIMIT_SECONDS) -> Any:
    """What `ask` gives, as soon as that is true and no connection was refused. `what` is said where it never is."""
    limit = time.monotonic() + limit_seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := ask():
                return found
        assert time.monotonic() < limit, f"expected within {limit_seconds:g} s: {what}"
        time.sleep(0.2)
