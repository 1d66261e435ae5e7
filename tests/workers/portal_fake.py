"""A portal for hosts, in this process, over real HTTP: the host's whole interface, with signatures and digests really checked.

It keeps what a host may rely on: the same request id gives the same orders, uploads go on where they stopped, receipts are idempotent.
Faults are switched on by attributes: `outage` (502 for everything), `answers_to_lose` (an exchange is carried out, its answer is not sent).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

from tests.workers.portal_fake_http import WAIT_SECONDS, Handler, RefusedError
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open, envelope_sign
from workers.protocol.errors import VerificationError
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
    KeyRotationAnswer,
    KeyRotationRequest,
    PredecessorKey,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ImageReference, Limits, Order
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, ReceiptPredicate
from workers.protocol.problems import problem_document
from workers.protocol.statements import Statement, statement_parse
from workers.protocol.strict_base64 import base64_decode
from workers.protocol.succession import Succession, succession_sign

JOIN_SECRET = "s" * 43


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
        self.upload_location: str | None = None
        """The address that a new upload is said to have, in place of its own."""
        self.upload_offsets: list[tuple[str, int]] = []
        self.registers_instead: PublicKey | None = None
        self.clock_ahead_seconds = 0.0
        """Of this portal's clock, by which it dates its answers and judges signatures."""
        self.stopping = False
        handler = type("OwnHandler", (Handler,), {"portal": self})
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
                orders = [] if self._closed() else self._claim(message.free.slots)
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

    def _closed(self) -> bool:
        """Whether this node gets no orders: what was claimed for an earlier request is still given."""
        return any(command.kind in {CommandKind.DRAIN, CommandKind.PAUSE} for command in self.commands)

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
            except VerificationError as error:
                results.append(ReceiptResult(problem=Problem.model_validate(problem_document(error))))
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

    def drain(self) -> None:
        """Until `resume`, as the node's owner says on its page."""
        with self.changing():
            self.commands.append(Command(kind=CommandKind.DRAIN, reason="This node is drained."))

    def resume(self) -> None:
        with self.changing():
            self.commands.clear()

    def cancel(self, order: Order) -> None:
        with self.changing():
            self.commands.append(Command(kind=CommandKind.CANCEL, lease_id=order.lease_id, reason="nobody wants it any more"))
