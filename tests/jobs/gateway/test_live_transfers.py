"""On a real ASGI server: the host's own client goes on where a download and an upload stopped."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from jobs.models import Blob
from tests.client.live_portal import LivePortal
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost, exchange_make, order_open
from workers.inputs import InputCache
from workers.journal import UploadRow
from workers.portal import PortalClient, PortalInterruptedError, PortalRefusedError, UploadState
from workers.protocol.digests import digest_of
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.order import Order
from workers.uploads import ChunkSize, upload_send

DATA = os.urandom(2 * 2**20)
HALF = len(DATA) // 2


@pytest.fixture(scope="module")
def portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    live = LivePortal(django_db_blocker)
    try:
        live.start(tmp_path_factory.mktemp("portal") / "uvicorn.log")
        yield live
    finally:
        live.stop()


@pytest.fixture
def client(portal: LivePortal) -> Iterator[PortalClient]:
    with portal.database():
        host = SimulatedHost()
    client = PortalClient(portal.origin, host.key)
    yield client
    client.close()


@pytest.fixture
def order(portal: LivePortal, client: PortalClient) -> Order:
    """An order in the client's hands, whose one input is DATA."""
    with portal.database():
        queued_job(inputs={"in": DATA})
    (envelope,) = client.exchange(ExchangeRequest.model_validate_json(json.dumps(exchange_make()))).orders
    return order_open(envelope)


@pytest.mark.parametrize("held", [DATA[:HALF], b"wrong" + DATA[5:HALF], DATA[:-1] + b"\0more"], ids=["right", "wrong", "too much"])
def test_partial_download_is_completed_or_begun_anew(client: PortalClient, order: Order, tmp_path: Path, held: bytes) -> None:
    (wanted,) = order.inputs
    partial = tmp_path / "cache" / f"{wanted.digest.removeprefix('sha256:')}.partial"
    partial.parent.mkdir()
    partial.write_bytes(held)
    InputCache(tmp_path / "cache").place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert digest_of((tmp_path / "in").read_bytes()) == wanted.digest


def test_only_the_missing_bytes_are_sent(client: PortalClient, order: Order) -> None:
    (wanted,) = order.inputs
    with client.blob(wanted.url, offset_bytes=HALF, digest=wanted.digest) as body:
        assert (body.offset_bytes, b"".join(body.chunks) == DATA[HALF:]) == (HALF, True)
    with client.blob(wanted.url, offset_bytes=HALF, digest=digest_of(b"another")) as body:
        assert (body.offset_bytes, b"".join(body.chunks) == DATA) == (0, True)
    with pytest.raises(PortalRefusedError) as refused, client.blob(wanted.url, offset_bytes=len(DATA), digest=wanted.digest):
        pass
    assert refused.value.status == 416


def test_upload_that_stopped_goes_on_in_chunks_that_grow(portal: LivePortal, client: PortalClient, order: Order, tmp_path: Path) -> None:
    data = os.urandom(2**20)
    path = tmp_path / "archive"
    path.write_bytes(data)
    upload = UploadRow(order.lease_id, digest_of(data), len(data), path, None, 0)
    stop, chunk, offsets = threading.Event(), ChunkSize(64 * 1024), []

    def note(state: UploadState) -> None:
        offsets.append(state.offset_bytes)
        if state.offset_bytes:
            stop.set()

    with pytest.raises(PortalInterruptedError):
        upload_send(upload, portal=client, note=note, chunk=chunk, stop=stop)
    stop = threading.Event()
    upload_send(upload, portal=client, note=lambda state: offsets.append(state.offset_bytes), chunk=chunk, stop=stop)
    assert offsets[:3] == [0, 64 * 1024, 64 * 1024]
    assert (offsets[-1], sorted(offsets) == offsets, len(offsets) < 16) == (len(data), True, True)
    with portal.database():
        assert Blob.objects.get(pk=upload.digest).size_bytes == len(data)
