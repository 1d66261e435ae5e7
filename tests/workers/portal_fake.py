"""A portal for hosts, in this process, over real HTTP: the host's whole interface, with signatures and digests really checked.

It keeps what a host may rely on: the same request id gives the same orders, uploads go on where they stopped, receipts are idempotent.
Faults are switched on by attributes: `outage` (502 for everything), `answers_to_lose` (an exchange is carried out, its answer is not sent).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open, envelope_sign
from workers.protocol.errors import VerificationError
from workers.protocol.http_signatures import request_key_id, request_verify
from workers.protocol.key_rotation import KeyRotation, rotation_verify
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import PROTOCOL_VERSION, Problem
from workers.protocol.messages.delivery import (
    RECEIPT_BLOB_BYTES_MAX,
    ReceiptAnswer,
    ReceiptResult,
    ReceiptsAnswer,
    ReceiptSubmission,
    SubmittedReceipt,
)
from workers.protocol.messages.exchange import Command, CommandKind, ExchangeAnswer, ExchangeRequest, NoWork, Renewal
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationAnswer,
    KeyRotationRequest,
    PredecessorKey,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ImageReference, Limits, Order
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, ReceiptPredicate
from workers.protocol.statements import Statement, statement_parse
from workers.protocol.strict_base64 import base64_decode
from workers.protocol.succession import Succession, succession_sign

JOIN_SECRET = "s" * 43
WAIT_SECONDS = 20.0


class RefusedError(Exception):
    def __init__(self, status: int, code: str, detail: str = "as the test wants it", **extra: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.detail, self.extra = status, code, detail, extra


class FakePortal:
    """Orders go in with `order_add`; what came of them is in `receipts`, `blobs`, `exchanges`. Close with `stop`."""

    def __init__(self, *, lease_seconds: float = 5.0) -> None:
        self.key = PrivateKey.generate()
        self.nodes: dict[str, PublicKey] = {}
        self.lease_seconds = lease_seconds
        self.changed = threading.Condition()
        self.orders: list[Order] = []
        self.given: dict[UUID, list[Order]] = {}
        self.leased: dict[UUID, Order] = {}
        self.exchanges: list[ExchangeRequest] = []
        self.commands: list[Command] = []
        self.blobs: dict[str, bytes] = {}
        self.blob_requests: list[tuple[str, str | None]] = []
        """Each digest that was asked for, and from which byte on, if the range was honoured."""
        self.blob_ranges_off = 0
        """By how much an answer's range is another than what was asked for."""
        self.blob_cuts: dict[str, list[tuple[int, threading.Event | None]]] = {}
        """By digest: each answer stops before this byte, at once or after keeping silent until the event (a minute at most)."""
        self.uploads: dict[str, dict[str, Any]] = {}
        self.receipts: dict[UUID, tuple[Statement, ReceiptPredicate]] = {}
        self.receipt_posts = 0
        self.receipt_refusals: list[RefusedError] = []
        """Each is one receipt's result, once."""
        self.blobs_along: list[str] = []
        """Digests of blobs that came along with a receipt that was recorded."""
        self.blob_along_bytes_max = RECEIPT_BLOB_BYTES_MAX
        self.left: list[str] = []
        self.successors: dict[str, tuple[PublicKey, str]] = {}
        """By the id of a node key that was replaced: the key itself, and the id of the one that followed."""
        self.predecessors: tuple[PredecessorKey, ...] = ()
        self.rotation_answers_to_lose = 0
        self.confirms_instead: PublicKey | None = None
        self.nonces: set[str] = set()
        self.outage = False
        self.outages_served = 0
        self.answers_to_lose = 0
        self.refusals: dict[str, RefusedError] = {}
        self.protocol_versions: tuple[int, ...] = (PROTOCOL_VERSION,)
        self.unspoken: list[str] = []
        """Addresses at which messages of another version were refused."""
        self.upload_refusals: dict[str, list[RefusedError]] = {}
        """By method: each is told once, by any address of uploads."""
        self.upload_patches_to_break = 0
        self.upload_barrier: threading.Barrier | None = None
        """The first chunk of an upload is taken when the others' are there as well."""
        self.upload_gate: threading.Event | None = None
        """Chunks other than the first are taken once it is set; until then their uploads are in `uploads_held`."""
        self.uploads_held: list[str] = []
        self.upload_offsets: list[tuple[str, int]] = []
        self.registers_instead: PublicKey | None = None
        self.clock_ahead_seconds = 0.0
        """Of this portal's clock, by which it dates its answers and judges signatures."""
        self.stopping = False
        handler = type("Handler", (_Handler,), {"portal": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping = True
        with self.changed:
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    # --- for tests ----------------------------------------------------------------------------------------------------

    def order_make(self, key: PublicKey, *command: str, **overrides: Any) -> Order:
        now = datetime.now(UTC)
        values: dict[str, Any] = {
            "replica_id": uuid4(),
            "lease_id": uuid4(),
            "node_key_id": key.key_id,
            "origin": self.origin,
            "issued_at": now,
            "deadline_at": now + timedelta(minutes=5),
            "tier": Tier.CPU,
            "job_type": "test",
            "credit_rate_micro": 1_000_000,
            "image": ImageReference(name="registry.example.org/test", image_id="sha256:" + "1a" * 32),
            "command": tuple(command),
            "limits": Limits(wall_seconds=60, memory_bytes=64 * 2**20, cpus=0.5, pids=64, disk_bytes=2**24, output_bytes=2**22),
        }
        return Order(**(values | overrides))

    def blob_url(self, digest: str) -> str:
        return f"{self.origin}/api/v1/blobs/{digest}"

    def order_add(self, order: Order) -> Order:
        with self.changed:
            self.orders.append(order)
            self.changed.notify_all()
        return order

    def envelope(self, order: Order) -> dict[str, Any]:
        data = envelope_sign(canonical_json(order.model_dump(mode="json")), PAYLOAD_TYPE_ORDER, self.key)
        return dict(json_parse(data, limit_bytes=2**22))

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
        end = time.monotonic() + seconds
        with self.changed:
            while not condition():
                left = end - time.monotonic()
                assert left > 0, f"waited {seconds} s for: {what}"
                self.changed.wait(min(left, 0.05))

    def receipt_of(self, order: Order, seconds: float = WAIT_SECONDS) -> ReceiptPredicate:
        self.wait_for(lambda: order.replica_id in self.receipts, f"the receipt of {order.replica_id}", seconds)
        return self.receipts[order.replica_id][1]

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self.changed:
            yield
            self.changed.notify_all()

    def key_succeed(self) -> None:
        """Another coordinator key, named by the one before; orders are signed with it from now on."""
        old, self.key = self.key, PrivateKey.generate()
        statement = Succession(origin=self.origin, successor=self.key.public.to_base64(), issued_at=datetime.now(UTC))
        envelope = dict(json_parse(succession_sign(statement, key=old), limit_bytes=2**20))
        self.predecessors = (*self.predecessors, PredecessorKey(public_key=old.public.to_base64(), succession=envelope))

    # --- the interface ------------------------------------------------------------------------------------------------

    def register(self, message: RegistrationRequest, key: PublicKey) -> RegistrationAnswer:
        if message.join_token != JOIN_SECRET:
            raise RefusedError(403, "join_token_unknown")
        key = self.registers_instead or key
        self.nodes[key.key_id] = key
        return RegistrationAnswer(
            protocol_version=PROTOCOL_VERSION,
            node_id=UUID(key.key_id.removeprefix("sha256:")[:32]),
            key_id=key.key_id,
            name=message.name,
            owner="ada",
            tier=Tier.CPU,
            queues=(Tier.CPU,),
            coordinator_key=self.key.public.to_base64(),
            origin=self.origin,
        )

    def key_rotate(self, message: KeyRotationRequest, old: PublicKey) -> KeyRotationAnswer:
        new = PublicKey.from_base64(message.public_key)
        node_id = UUID(old.key_id.removeprefix("sha256:")[:32])
        rotation_verify(message.proof, new_key=new, expected=KeyRotation(origin=self.origin, node_id=node_id, old_key_id=old.key_id))
        if self.successors.setdefault(old.key_id, (old, new.key_id))[1] != new.key_id:
            raise RefusedError(403, "key_retired")
        self.nodes.pop(old.key_id, None)
        self.nodes[new.key_id] = new
        return KeyRotationAnswer(protocol_version=PROTOCOL_VERSION, node_id=node_id, key_id=(self.confirms_instead or new).key_id)

    def exchange(self, message: ExchangeRequest) -> ExchangeAnswer:
        end = time.monotonic() + message.wait_seconds
        with self.changed:
            self.exchanges.append(message)
            number = len(self.exchanges)
            self.changed.notify_all()
            orders = self.given.get(message.request_id, [])
            # A newer exchange means that the host has given this one up.
            while not orders and message.free.slots and number == len(self.exchanges):
                orders = self._claim(message.free.slots)
                if orders or self.commands or self.stopping or self.outage or time.monotonic() >= end:
                    break
                self.changed.wait(min(0.5, end - time.monotonic()))
            self.given[message.request_id] = orders
            now = datetime.now(UTC)
            no_work = None if orders or not message.free.slots else NoWork(code="no_jobs_queued", message="Nothing is queued.")
            return ExchangeAnswer(
                protocol_version=PROTOCOL_VERSION,
                request_id=message.request_id,
                server_time=now,
                orders=tuple(self.envelope(order) for order in orders),
                renewed=tuple(
                    Renewal(lease_id=lease.lease_id, expires_at=now + timedelta(seconds=self.lease_seconds)) for lease in message.leases
                ),
                commands=tuple(self.commands),
                no_work=no_work,
            )

    def _claim(self, slots: int) -> list[Order]:
        claimed, self.orders = self.orders[:slots], self.orders[slots:]
        self.leased |= {order.lease_id: order for order in claimed}
        return claimed

    def receipts_take(self, message: ReceiptSubmission, key: PublicKey) -> ReceiptsAnswer:
        results = []
        for submitted in message.receipts:
            try:
                if self.receipt_refusals:
                    raise self.receipt_refusals.pop()
                results.append(ReceiptResult(answer=self.receipt(submitted, key)))
            except RefusedError as error:
                results.append(ReceiptResult(problem=Problem(title="Refused", status=error.status, code=error.code, detail=error.detail)))
        return ReceiptsAnswer(results=tuple(results))

    def receipt(self, submitted: SubmittedReceipt, key: PublicKey) -> ReceiptAnswer:
        payload = envelope_open(canonical_json(submitted.envelope), payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
        statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        predicate = ReceiptPredicate.model_validate(statement.predicate)
        order = self.leased.get(predicate.lease_id)
        if order is None or order.replica_id != predicate.replica_id:
            raise RefusedError(409, "lease_unknown")
        if predicate.order_digest != digest_of(canonical_json(order.model_dump(mode="json"))):
            raise RefusedError(409, "receipt_contradiction")
        along = {}
        for stored, encoded in ((predicate.log, submitted.log), (predicate.archive, submitted.archive)):
            data = None if encoded is None else base64_decode(encoded)
            if data is not None:
                if stored is None or digest_of(data) != stored.digest or len(data) > self.blob_along_bytes_max:
                    raise RefusedError(422, "receipt_blob_wrong")
                along[stored.digest] = data
            if stored is not None and len((self.blobs | along).get(stored.digest, b"")) != stored.size_bytes:
                raise RefusedError(409, "receipt_blob_missing")
        with self.changing():
            self.blobs |= along
            self.blobs_along += along
            self.receipt_posts += 1
            self.receipts[predicate.replica_id] = (statement, predicate)
        return ReceiptAnswer(
            replica_id=predicate.replica_id, status="recorded", receipt_digest=digest_of(payload), received_at=datetime.now(UTC)
        )

    def cancel(self, order: Order) -> None:
        with self.changing():
            self.commands.append(Command(kind=CommandKind.CANCEL, lease_id=order.lease_id, reason="nobody wants it any more"))


class _Handler(BaseHTTPRequestHandler):
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
            self._problem(error.status, error.code, error.detail, **error.extra)
        except VerificationError as error:
            self._problem(401, error.code, str(error))

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
        self._answer(201, b"", {"Location": path, "Tus-Resumable": "1.0.0"})

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

    def _problem(self, status: int, code: str, detail: str, **extra: Any) -> None:
        document = {"type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail, **extra}
        self._answer(status, json.dumps(document).encode(), {"Content-Type": "application/problem+json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)
