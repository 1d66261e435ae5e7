"""The portal client, tus uploads and the input cache over real HTTP: each way in which a call can fail has its type."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.backoff import Backoff
from workers.home import NodeHome
from workers.interruption import InterruptibleAdapter
from workers.journal import UploadRow
from workers.orders import OrderMalformedError, order_open
from workers.portal import (
    PortalClient,
    PortalInterruptedError,
    PortalProtocolError,
    PortalRefusedError,
    PortalUnreachableError,
    UploadState,
)
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, envelope_sign
from workers.protocol.errors import EnvelopeMalformedError, KeyWrongError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.machine import Tier
from workers.resources import NOTHING_FREE
from workers.uploads import BlobLostError, ChunkSize, upload_send

NEVER = threading.Event()


@pytest.fixture
def client(home: NodeHome, portal: FakePortal) -> PortalClient:
    return PortalClient(portal.origin, home.key())


def request_make(wait_seconds: float = 0, slots: int = 0) -> ExchangeRequest:
    return ExchangeRequest(
        protocol_version=PROTOCOL_VERSION,
        request_id=uuid4(),
        session_id=uuid4(),
        wait_seconds=wait_seconds,
        queues=(Tier.CPU,),
        free=NOTHING_FREE.model_copy(update={"slots": slots}),
    )


def test_long_poll_is_interrupted_at_once_and_the_client_works_on(client: PortalClient, portal: FakePortal) -> None:
    threading.Timer(0.3, client.interrupt).start()
    began = time.monotonic()
    with pytest.raises(PortalInterruptedError):
        client.exchange(request_make(wait_seconds=20, slots=1))
    assert time.monotonic() - began < 3
    message = request_make()
    assert client.exchange(message).request_id == message.request_id
    client.interrupt()
    assert client.exchange(request_make()).orders == ()


def test_interruption_while_a_request_is_made_ends_it_too(client: PortalClient, portal: FakePortal) -> None:
    interruptions = client.interruptions
    message = request_make(wait_seconds=20, slots=1)
    client.interrupt()
    with pytest.raises(PortalInterruptedError):
        client.exchange(message, interruptions=interruptions)
    assert portal.exchanges == []
    assert client.exchange(request_make(), interruptions=client.interruptions).orders == ()


def test_connection_that_is_made_after_the_interruption_of_its_call_is_shut_down() -> None:
    adapter = InterruptibleAdapter()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        adapter.call_begin(None)
        adapter.interrupt()
        adapter._opened(ours)
        assert theirs.recv(1) == b""


def test_portal_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(PortalUnreachableError):
        PortalClient(origin, None).coordinator()


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, PortalUnreachableError), (503, PortalUnreachableError), (429, PortalUnreachableError), (403, PortalRefusedError)],
)
def test_problem_by_status(client: PortalClient, portal: FakePortal, status: int, error: type[Exception]) -> None:
    portal.refusals["/api/v1/exchange"] = RefusedError(status, "some_code")
    with pytest.raises(error, match="some_code"):
        client.exchange(request_make())


def test_page_of_a_proxy_is_no_answer(client: PortalClient, portal: FakePortal) -> None:
    portal.outage = True
    with pytest.raises(PortalUnreachableError, match="502"):
        client.exchange(request_make())


def test_unknown_key_is_refused_with_its_code(portal: FakePortal) -> None:
    with pytest.raises(PortalRefusedError) as caught:
        PortalClient(portal.origin, PrivateKey.generate()).exchange(request_make())
    assert caught.value.code == "node_unknown"


def test_answer_that_is_not_the_message(client: PortalClient, portal: FakePortal) -> None:
    portal.blobs["x"] = b"{}"
    with pytest.raises(PortalProtocolError, match="not ExchangeAnswer"):
        client._call("GET", "/api/v1/blobs/x", type(client.exchange(request_make())))


def test_nothing_is_fetched_from_elsewhere(client: PortalClient) -> None:
    for url in ("https://example.org/x", "http://127.0.0.1:1/x", "file:///etc/passwd", "http://["):
        with pytest.raises(PortalProtocolError, match="Nothing is fetched"), client.blob(url):
            pass


@pytest.mark.parametrize("address", ["http://[", "https://elsewhere.example/upload"])
def test_upload_whose_address_cannot_be_used_is_no_answer(client: PortalClient, portal: FakePortal, address: str) -> None:
    order = portal.order_make(PrivateKey.generate().public)
    portal.leased[order.lease_id] = order
    portal.upload_location = address
    with pytest.raises(PortalProtocolError, match="Expected the address of an upload"):
        client.upload_create(lease_id=order.lease_id, digest=digest_of(b"x"), size_bytes=1)


def test_address_that_is_none_is_no_answer(client: PortalClient) -> None:
    with pytest.raises(PortalProtocolError, match="Expected an address on"):
        client.upload_offset("http://[", size_bytes=1)


def test_upload_goes_on_after_a_chunk_whose_answer_was_lost(
    client: PortalClient, portal: FakePortal, key: PublicKey, tmp_path: Path
) -> None:
    order = portal.order_make(key)
    portal.leased[order.lease_id] = order
    data = bytes(range(256)) * 1000
    path = tmp_path / "blob"
    path.write_bytes(data)
    upload = UploadRow(order.lease_id, digest_of(data), len(data), path, None, 0)
    states: list[UploadState] = []
    portal.upload_patches_to_break = 1
    chunk = ChunkSize(30_000)
    with pytest.raises(PortalUnreachableError):
        upload_send(upload, portal=client, note=states.append, chunk=chunk, stop=NEVER)
    again = UploadRow(order.lease_id, upload.digest, len(data), path, states[-1].url, states[-1].offset_bytes)
    upload_send(again, portal=client, note=states.append, chunk=chunk, stop=NEVER)
    assert portal.blobs[upload.digest] == data
    assert [state.offset_bytes for state in states] == [0, 30_000, 60_000, 180_000, len(data)]
    portal.uploads.clear()
    upload_send(again, portal=client, note=states.append, chunk=chunk, stop=NEVER)  # the portal has forgotten it: announced anew
    assert states[-1].offset_bytes == len(data)


def test_upload_of_a_file_that_shrank(client: PortalClient, portal: FakePortal, key: PublicKey, tmp_path: Path) -> None:
    order = portal.order_make(key)
    portal.leased[order.lease_id] = order
    path = tmp_path / "blob"
    path.write_bytes(b"12")
    with pytest.raises(BlobLostError, match="shorter than the 5 bytes"):
        upload_send(
            UploadRow(order.lease_id, digest_of(b"12345"), 5, path, None, 0),
            portal=client,
            note=lambda _: None,
            chunk=ChunkSize(),
            stop=NEVER,
        )


def test_upload_for_a_lease_that_is_not_ours(client: PortalClient, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"1")
    with pytest.raises(PortalRefusedError) as caught:
        upload_send(
            UploadRow(uuid4(), digest_of(b"1"), 1, path, None, 0), portal=client, note=lambda _: None, chunk=ChunkSize(), stop=NEVER
        )
    assert caught.value.code == "lease_unknown"


def test_order_of_another_coordinator_and_no_order_at_all(portal: FakePortal, key: PublicKey) -> None:
    envelope = portal.envelope(portal.order_make(key))
    opened = order_open(envelope, coordinator=portal.key.public)
    assert opened.digest == digest_of(canonical_json(opened.order.model_dump(mode="json")))
    with pytest.raises(KeyWrongError):
        order_open(envelope, coordinator=PrivateKey.generate().public)
    for broken in ({}, {"payload": 1}, {"a": float("nan")}, {"payload": {1: 2}}):
        with pytest.raises((EnvelopeMalformedError, OrderMalformedError)):
            order_open(broken, coordinator=portal.key.public)
    newer = envelope_sign(b'{"order_version": 2}', PAYLOAD_TYPE_ORDER, portal.key)
    with pytest.raises(OrderMalformedError, match="order_version"):
        order_open(newer, coordinator=portal.key.public)


def test_backoff_doubles_up_to_its_limit_and_starts_anew() -> None:
    backoff = Backoff(longest_seconds=3, uniform=lambda _, high: high)
    assert [backoff.failed() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.worked()
    assert backoff.failed() == 0.5
    assert all(0.05 <= Backoff().failed() <= 0.5 for _ in range(50))
