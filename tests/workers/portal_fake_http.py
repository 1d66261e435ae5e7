"""The HTTP side of the portal for hosts: addresses, signatures, ranges and chunks. What becomes of a message is portal_fake.py's."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from workers.protocol.digests import digest_of
from workers.protocol.errors import VerificationError
from workers.protocol.http_signatures import request_key_id, request_verify
from workers.protocol.keys import PublicKey
from workers.protocol.messages.delivery import (
    ReceiptSubmission,
)
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationRequest,
    RegistrationRequest,
)
from workers.protocol.strict_base64 import base64_decode

if TYPE_CHECKING:
    from tests.workers.portal_fake import FakePortal


WAIT_SECONDS = 20.0


class RefusedError(Exception):
    """A problem; without a code, a page of a proxy."""

    def __init__(self, status: int, code: str, detail: str = "as the test wants it", **extra: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.detail, self.extra = status, code, detail, extra
        self.headers: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    portal: FakePortal
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PATCH = do_HEAD = do_GET  # noqa: N815  names that http.server looks up

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.portal.clock_ahead_seconds)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    def _handle(self) -> None:
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.portal.outage:
                self.portal.outages_served += 1
                self._answer(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})
                return
            self._route(body)
        except RefusedError as error:
            if error.code:
                self._problem(error.status, error.code, error.detail, error.headers, **error.extra)
            else:
                self._answer(error.status, b"<html>No</html>", {"Content-Type": "text/html", **error.headers})
        except VerificationError as error:
            self._problem(401, error.code, str(error), {})

    def _route(self, body: bytes) -> None:  # noqa: C901, PLR0912  one line for each address
        portal, path = self.portal, urlsplit(self.path).path
        if path in portal.refusals:
            raise portal.refusals[path]
        if path == "/api/v1/coordinator":
            self._json(
                CoordinatorInfo(
                    protocol_versions=portal.protocol_versions,
                    origin=portal.origin,
                    public_key=portal.key.public.to_base64(),
                    key_id=portal.key.public.key_id,
                    predecessors=portal.predecessors,
                )
            )
            return
        if path == "/api/v1/nodes":
            message = RegistrationRequest.model_validate_json(body)
            key = self._signed(body, PublicKey.from_base64(message.public_key))
            self._json(portal.register(message, key), 201)
            return
        key = self._signed(body)
        if path in ("/api/v1/exchange", "/api/v1/receipts"):
            self._spoken_check(path, body)
        if path.startswith("/api/v1/uploads") and portal.upload_refusals.get(self.command):
            refusal = portal.upload_refusals[self.command].pop()
            if refusal.code == "upload_digest_mismatch":
                portal.uploads.pop(path)
            raise refusal
        if path == "/api/v1/exchange":
            answer = portal.exchange(ExchangeRequest.model_validate_json(body))
            if portal.outage:
                raise RefusedError(503, "unavailable")
            if answer.orders and portal.answers_to_lose:
                portal.answers_to_lose -= 1
                self.close_connection = True
                return
            self._json(answer)
        elif path == "/api/v1/receipts":
            self._json(portal.receipts_take(ReceiptSubmission.model_validate_json(body), key))
        elif path == "/api/v1/nodes/self/key":
            rotated = portal.key_rotate(KeyRotationRequest.model_validate_json(body), key)
            if portal.rotation_answers_to_lose:
                portal.rotation_answers_to_lose -= 1
                self.close_connection = True
                return
            self._json(rotated)
        elif path == "/api/v1/nodes/self/leave":
            portal.left.append(key.key_id)
            self._answer(204, b"")
        elif path == "/api/v1/uploads":
            self._upload_create()
        elif path.startswith("/api/v1/uploads/"):
            self._upload(path, body)
        elif path.startswith("/api/v1/blobs/"):
            self._blob(path.removeprefix("/api/v1/blobs/"))
        else:
            raise RefusedError(404, "not_found")

    def _spoken_check(self, path: str, body: bytes) -> None:
        portal, found = self.portal, json.loads(body)["protocol_version"]
        if found not in portal.protocol_versions:
            portal.unspoken.append(path)
            spoken = list(portal.protocol_versions)
            raise RefusedError(400, "protocol_unsupported", f"Expected protocol version {spoken}; found {found}.", supported=spoken)

    def _signed(self, body: bytes, key: PublicKey | None = None) -> PublicKey:
        key_id = request_key_id(dict(self.headers))
        key = key or self.portal.nodes.get(key_id)
        if key is None and key_id in self.portal.successors:
            if self.path != "/api/v1/nodes/self/key":
                raise RefusedError(403, "key_retired", "The key was replaced.")
            key = self.portal.successors[key_id][0]
        if key is None:
            raise RefusedError(401, "node_unknown")
        parts = urlsplit(self.path)
        found = request_verify(
            method=self.command,
            authority=self.headers["Host"],
            path=parts.path,
            query=parts.query,
            headers=dict(self.headers),
            body=body,
            key=key,
            now=int(time.time() + self.portal.clock_ahead_seconds),
            scheme="http",
        )
        if found.nonce in self.portal.nonces:
            raise RefusedError(401, "signature_replayed")
        self.portal.nonces.add(found.nonce)
        return key

    def _blob(self, digest: str) -> None:
        """As jobs/gateway/downloads.py: one range, if what the caller holds is of this blob."""
        portal, data = self.portal, self.portal.blobs.get(digest)
        asked = self.headers.get("Range") if self.headers.get("If-Range") in (None, f'"{digest}"') else None
        with portal.changing():
            portal.blob_requests.append((digest, asked))
        if data is None:
            raise RefusedError(404, "blob_unknown")
        headers = {"Content-Type": "application/octet-stream", "ETag": f'"{digest}"'}
        status, first = 200, 0
        if asked is not None:
            status, first = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(data):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {first + portal.blob_ranges_off}-{len(data) - 1}/{len(data)}"
        cuts = portal.blob_cuts.get(digest)
        if not cuts:
            self._answer(status, data[first:], headers)
            return
        stop_at, hold = cuts.pop(0)
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data) - first)}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[first:stop_at])
        self.wfile.flush()
        self.close_connection = True
        if hold is not None:
            hold.wait(60)

    def _upload_create(self) -> None:
        metadata = dict(pair.split(" ") for pair in self.headers["Upload-Metadata"].split(","))
        digest = base64_decode(metadata["digest"]).decode()
        lease_id = UUID(base64_decode(metadata["lease_id"]).decode())
        if lease_id not in self.portal.leased:
            raise RefusedError(404, "lease_unknown")
        path = f"/api/v1/uploads/{uuid4()}"
        self.portal.uploads[path] = {"digest": digest, "size": int(self.headers["Upload-Length"]), "data": b""}
        self._answer(201, b"", {"Location": self.portal.upload_location or path, "Tus-Resumable": "1.0.0"})

    def _upload(self, path: str, body: bytes) -> None:
        upload = self.portal.uploads.get(path)
        if upload is None:
            raise RefusedError(404, "upload_unknown")
        if self.command == "PATCH":
            if int(self.headers["Upload-Offset"]) != len(upload["data"]):
                raise RefusedError(409, "upload_offset_wrong")
            self._chunk_wait(path, len(upload["data"]))
            upload["data"] += body
            self.portal.uploads_held = [held for held in self.portal.uploads_held if held != path]
            if self.portal.upload_patches_to_break:
                self.portal.upload_patches_to_break -= 1
                self.close_connection = True
                return
            if len(upload["data"]) == upload["size"] and digest_of(upload["data"]) != upload["digest"]:
                raise RefusedError(422, "digest_mismatch")
        if len(upload["data"]) == upload["size"]:
            self.portal.blobs[upload["digest"]] = upload["data"]
        self._answer(204 if self.command == "PATCH" else 200, b"", {"Upload-Offset": str(len(upload["data"])), "Tus-Resumable": "1.0.0"})

    def _chunk_wait(self, path: str, offset_bytes: int) -> None:
        portal = self.portal
        portal.upload_offsets.append((path, offset_bytes))
        if portal.upload_gate is not None and offset_bytes and not portal.upload_gate.is_set():
            portal.uploads_held.append(path)
            portal.upload_gate.wait(60)
        if portal.upload_barrier is not None and not offset_bytes:
            portal.upload_barrier.wait(WAIT_SECONDS)

    def _json(self, model: Any, status: int = 200) -> None:
        self._answer(status, model.model_dump_json().encode(), {"Content-Type": "application/json"})

    def _problem(self, status: int, code: str, detail: str, headers: dict[str, str], **extra: Any) -> None:
        document = {"type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail, **extra}
        self._answer(status, json.dumps(document).encode(), {"Content-Type": "application/problem+json", **headers})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)
