"""A container registry on the loopback interface, which engines take over plain HTTP: one small image, made here, new each time."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from typing import Any, Self

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_PIECE_BYTES = 64 * 1024


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Serves `reference`, an image whose id is `image_id`. With `hold`, the layer stops half way until `let_go` or the end.

    `damaged`: the layer's bytes are other ones than its digest promises. `zeros`: the layer is long and its packed form is not.
    `away`: so many requests are answered with 503. Use as a context manager.
    """

    def __init__(self, *, layer_bytes: int = 2**20, hold: bool = False, damaged: bool = False, zeros: bool = False, away: int = 0) -> None:
        layer_file = io.BytesIO()
        with tarfile.open(fileobj=layer_file, mode="w") as archive:
            member = tarfile.TarInfo("data")
            member.size = layer_bytes
            content = os.urandom(16) + bytes(layer_bytes - 16) if zeros else os.urandom(layer_bytes)
            archive.addfile(member, io.BytesIO(content))
        layer = layer_file.getvalue()
        packed = gzip.compress(layer, 1)
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}}
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(packed), "digest": _digest(packed)}
                ],
            }
        ).encode()
        self.layer_bytes = len(packed)
        self.away = away
        self.layer_requests = 0
        self.image_id = _digest(config)
        self.held = threading.Event()
        """Set once a held layer has stopped."""
        self._may_go = threading.Event()
        if not hold:
            self._may_go.set()
        self._layer_path = f"/v2/small/blobs/{_digest(packed)}"
        sent = packed[:-1] + bytes([packed[-1] ^ 1]) if damaged else packed
        self._pages = {
            "/v2/": b"{}",
            f"/v2/small/manifests/{_digest(manifest)}": manifest,
            f"/v2/small/blobs/{_digest(config)}": config,
            self._layer_path: sent,
        }
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.name = f"127.0.0.1:{self._server.server_address[1]}/small"
        self.reference = f"{self.name}@{_digest(manifest)}"

    def let_go(self) -> None:
        self._may_go.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._may_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def _answer(self, *, with_body: bool) -> None:
                if registry.away:
                    registry.away -= 1
                    self.send_error(503)
                    return
                body = registry._pages.get(self.path)
                registry.layer_requests += self.path == registry._layer_path
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", MANIFEST_TYPE if "/manifests/" in self.path else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for start in range(0, len(body) if with_body else 0, _PIECE_BYTES):
                    if self.path == registry._layer_path and start >= len(body) // 2 and not registry._may_go.is_set():
                        self.wfile.flush()
                        registry.held.set()
                        registry._may_go.wait(60)
                    try:
                        self.wfile.write(body[start : start + _PIECE_BYTES])
                    except OSError:
                        return  # the engine has given up

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that the base class gives it
                pass

        return Handler
