"""A host as the gateway sees it: signs requests, uploads, makes receipts. Speaks HTTP through Django's test client."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from nodes.models import Node
from people.models import User
from tests.factories.nodes import node_make, signed_headers, signed_post
from tests.factories.people import user_make
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE
from workers.protocol.statements import Subject, statement_build

GIB = 2**30
LOG = b'{"seq":0}\n'
ARCHIVE = b"the archive of a run\n"
PORTAL_KEY = PrivateKey.from_raw(bytes(range(32)))


class SimulatedHost:
    """One node with its key. `owner` None: an owner of its own."""

    def __init__(self, owner: User | None = None, **fields: Any) -> None:
        self.node: Node
        self.node, self.key = node_make(owner or user_make(), **fields)
        self.client = Client()
        self.session_id = str(uuid.uuid4())

    def exchange(self, **fields: Any) -> Any:
        """The answer to an exchange that asks for one slot and doesn't wait, unless `fields` say otherwise."""
        return signed_post(self.client, "/api/v1/exchange", exchange_make(**{"session_id": self.session_id, **fields}), self.key)

    def order(self, **fields: Any) -> Order:
        """The one order that an exchange brings, its signature checked."""
        answer = self.exchange(**fields).json()
        assert len(answer["orders"]) == 1, answer
        return order_open(answer["orders"][0])

    def upload(self, lease_id: uuid.UUID | str, data: bytes) -> None:
        created = self.upload_create(lease_id, digest_of(data), len(data))
        assert created.status_code == 201, created.content
        offset = int(created["Upload-Offset"])
        if rest := data[offset:]:
            patched = self.patch(created["Location"], rest, offset)
            assert patched.status_code == 204, patched.content

    def upload_create(self, lease_id: uuid.UUID | str | None, digest: str, size_bytes: int, **changed: str) -> Any:
        metadata = f"digest {_encoded(digest)}" + (f",lease_id {_encoded(str(lease_id))}" if lease_id else "")
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size_bytes), "Upload-Metadata": metadata, **changed}
        return self.send("POST", "/api/v1/uploads", b"", **headers)

    def patch(self, path: str, data: bytes, offset: int, **changed: str) -> Any:
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            **changed,
        }
        return self.send("PATCH", path, data, **headers)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """The answer to a signed request."""
        signed = signed_headers(self.key, method, path, body, age_seconds=0, **headers)
        content_type = signed.pop("Content-Type", "")
        return self.client.generic(method, path, body, content_type=content_type, headers=signed)

    def receipt(self, order: Order, *, failure: tuple[str, str] | None = None, **changed: Any) -> dict[str, Any]:
        """The signed envelope of a receipt; `failure` is a code and a message; `changed` replaces parts of the predicate."""
        return receipt_make(order, self.key, failure=failure, **changed)

    def report(self, order: Order, *, failure: tuple[str, str] | None = None, **changed: Any) -> Any:
        """Uploads what the receipt names, and sends it."""
        self.upload(order.lease_id, LOG)
        if failure is None:
            self.upload(order.lease_id, ARCHIVE)
        return self.submit(self.receipt(order, failure=failure, **changed))

    def submit(self, envelope: Any, **blobs: bytes) -> Any:
        """The result of one receipt, as an answer of its own: the whole answer's, unless that is a refusal of all. `blobs` come along."""
        answer = self.submit_all([submitted_make(envelope, **blobs)])
        return SingleResult(answer.json()["results"][0]) if answer.status_code == 200 else answer

    def submit_all(self, receipts: Sequence[Any]) -> Any:
        """The answer to a batch of what `submitted_make` makes."""
        return signed_post(self.client, "/api/v1/receipts", {"protocol_version": 1, "receipts": list(receipts)}, self.key)


class SingleResult:
    """One result of a batch, read as an HTTP answer would be."""

    def __init__(self, result: dict[str, Any]) -> None:
        self._document: dict[str, Any] = result["answer"] or result["problem"]
        self.status_code: int = self._document["status"] if result["problem"] else 200

    def json(self) -> dict[str, Any]:
        return self._document


def submitted_make(envelope: Any, **blobs: bytes) -> dict[str, Any]:
    """A receipt of a batch; `blobs`, `log` and `archive`, come along."""
    return {"envelope": envelope, **{name: base64.b64encode(data).decode() for name, data in blobs.items()}}


def exchange_make(**fields: Any) -> dict[str, Any]:
    """The JSON of an exchange. `slots`, `cpus` and so on go into `free`."""
    free = {"slots": 1, "cpus": 8.0, "memory_bytes": 32 * GIB, "disk_bytes": 100 * GIB, "gpus": []}
    free.update({name: fields.pop(name) for name in list(fields) if name in free})
    values = {
        "protocol_version": 1,
        "request_id": str(uuid.uuid4()),
        "wait_seconds": 0,
        "queues": ["cpu"],
        "free": free,
        "session_id": str(uuid.uuid4()),
    }
    return {**values, **fields}


def order_open(envelope: Any) -> Order:
    """The order in an envelope that the test coordinator signed."""
    data = json.dumps(envelope).encode()
    return Order.model_validate_json(envelope_open(data, payload_type=PAYLOAD_TYPE_ORDER, key=PORTAL_KEY.public))


def order_digest(envelope: Any) -> str:
    return digest_of(base64.b64decode(envelope["payload"]))


def receipt_make(order: Order, key: PrivateKey, *, failure: tuple[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    now = timezone.now().isoformat()
    predicate: dict[str, Any] = {
        "receipt_version": 1,
        "order_digest": digest_of(canonical_json(order.model_dump(mode="json"))),
        "replica_id": str(order.replica_id),
        "lease_id": str(order.lease_id),
        "node_key_id": key.public.key_id,
        "started_at": now,
        "finished_at": now,
        "outcome": "failed" if failure else "completed",
        "exit_code": None if failure else 0,
        "failure": {"code": failure[0], "message": failure[1]} if failure else None,
        "result_digest": None if failure else digest_of(b"manifest"),
        "archive": None if failure else {"digest": digest_of(ARCHIVE), "size_bytes": len(ARCHIVE)},
        "log": {"digest": digest_of(LOG), "size_bytes": len(LOG), "head": digest_of(b"head"), "lines": 1},
        "usage": {"wall_seconds": 1.0, "cpu_seconds": 1.0, "memory_peak_bytes": 1, "samples": 1},
        "benchmark_gflops": 10.0,
        **changed,
    }
    payload = statement_build([Subject.of("log.jsonl", digest_of(LOG))], RECEIPT_PREDICATE_TYPE, predicate)
    envelope: dict[str, Any] = json.loads(envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, key))
    return envelope


def body_of(response: Any) -> bytes:
    """The whole body of an answer, streamed or not."""
    if not response.streaming:
        return bytes(response.content)

    async def read() -> bytes:
        return b"".join([chunk async for chunk in response.streaming_content])

    return async_to_sync(read)()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
