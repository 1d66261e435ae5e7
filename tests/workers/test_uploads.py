"""Uploads over real HTTP: chunks that fit the uplink, several blobs at once, and an end when the worker has to exit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.slow_link import SlowLink
from workers.home import NodeHome
from workers.journal import Journal, UploadRow
from workers.portal import PortalClient, PortalInterruptedError, PortalUnreachableError, UploadState
from workers.protocol.digests import digest_of
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX
from workers.protocol.messages.order import Order
from workers.reporting import Reporter
from workers.uploads import CHUNK_BYTES_FIRST, CHUNK_BYTES_MIN, CHUNK_SECONDS, ChunkSize, upload_send

MIB = 2**20
NEVER = threading.Event()


@pytest.fixture
def client(home: NodeHome, portal: FakePortal) -> PortalClient:
    return PortalClient(portal.origin, home.key())


@pytest.fixture
def journal(home: NodeHome) -> Iterator[Journal]:
    journal = Journal.open(home.journal_path)
    yield journal
    journal.close()


def leased(portal: FakePortal, home: NodeHome) -> Order:
    order = portal.order_make(home.key().public)
    portal.leased[order.lease_id] = order
    return order


def blob(path: Path, order: Order, data: bytes) -> UploadRow:
    path.write_bytes(data)
    return UploadRow(order.lease_id, digest_of(data), len(data), path, None, 0)


def test_chunks_grow_and_shrink_to_take_two_seconds() -> None:
    chunk = ChunkSize()
    sizes = []
    for _ in range(4):
        chunk.took(chunk.size_bytes, 0.01)
        sizes.append(chunk.size_bytes)
    assert sizes == [MIB, 4 * MIB, UPLOAD_CHUNK_BYTES_MAX, UPLOAD_CHUNK_BYTES_MAX]
    for _ in range(8):  # 1 Mbit/s
        chunk.took(chunk.size_bytes, chunk.size_bytes / 125_000)
    assert chunk.size_bytes == pytest.approx(125_000 * CHUNK_SECONDS, rel=0.01)
    chunk.took(1000, 0.001)  # the rest of a file: no reason for more
    assert chunk.size_bytes == pytest.approx(125_000 * CHUNK_SECONDS, rel=0.01)
    for _ in range(9):
        chunk.failed(chunk.size_bytes, 30)
    assert chunk.size_bytes == CHUNK_BYTES_MIN
    fresh = ChunkSize()
    fresh.failed(fresh.size_bytes, 0.01)  # refused at once: not for its size
    assert fresh.size_bytes == CHUNK_BYTES_FIRST


def test_upload_over_a_slow_uplink_arrives_where_large_chunks_never_would(home: NodeHome, portal: FakePortal, tmp_path: Path) -> None:
    order = leased(portal, home)
    upload = blob(tmp_path / "blob", order, os.urandom(2 * MIB))
    with SlowLink(portal.origin, bytes_per_second=400_000) as link:
        client = PortalClient(link.origin, home.key(), read_seconds=2.5)
        fixed = ChunkSize(2 * MIB)
        with pytest.raises(PortalUnreachableError):
            upload_send(upload, portal=client, note=lambda _: None, chunk=fixed, stop=NEVER)
        assert fixed.size_bytes == MIB // 2  # 5 s for what was to be answered within 2.5: smaller next time
        states: list[UploadState] = []
        upload_send(upload, portal=client, note=states.append, chunk=ChunkSize(), stop=NEVER)
        client.close()
    assert digest_of(portal.blobs[upload.digest]) == upload.digest
    assert [state.offset_bytes for state in states][:2] == [0, CHUNK_BYTES_FIRST]


def test_blobs_of_a_lease_go_up_at_once_and_are_shown(
    home: NodeHome, portal: FakePortal, client: PortalClient, journal: Journal, tmp_path: Path
) -> None:
    order = leased(portal, home)
    journal.lease_add(lease_id=order.lease_id, replica_id=order.replica_id, envelope=b"", order_digest="", job_type="test", image="test")
    uploads = [blob(tmp_path / name, order, os.urandom(3 * MIB)) for name in ("log", "archive")]
    journal.lease_finished(order.lease_id, receipt=b"{}", failure=None, uploads=uploads)
    shown: list[tuple[float, str]] = []
    reporter = Reporter(
        journal=journal,
        portal=client,
        folder=tmp_path,
        deadline_at=order.deadline_at,
        give_up=NEVER,
        show=lambda fraction, text: shown.append((fraction, text)),
    )
    portal.upload_barrier = threading.Barrier(2)  # each first chunk waits for the other blob's
    thread = threading.Thread(target=reporter.report, args=(order.lease_id,))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()  # the receipt of this test is none, and refused as such
    assert all(digest_of(portal.blobs[upload.digest]) == upload.digest for upload in uploads)
    assert (shown[0][0], shown[-1]) == (0.0, (1.0, "6.3 MB of 6.3 MB"))


def test_giving_up_ends_a_blocked_upload_within_two_seconds(home: NodeHome, portal: FakePortal, journal: Journal, tmp_path: Path) -> None:
    order = leased(portal, home)
    journal.lease_add(lease_id=order.lease_id, replica_id=order.replica_id, envelope=b"", order_digest="", job_type="test", image="test")
    upload = blob(tmp_path / "archive", order, os.urandom(2 * MIB))
    journal.lease_finished(order.lease_id, receipt=b"{}", failure=None, uploads=[upload])
    give_up, answers = threading.Event(), list[bool]()
    with SlowLink(portal.origin, bytes_per_second=20_000) as link:
        client = PortalClient(link.origin, home.key())
        reporter = Reporter(journal=journal, portal=client, folder=tmp_path, deadline_at=order.deadline_at, give_up=give_up)
        thread = threading.Thread(target=lambda: answers.append(reporter.report(order.lease_id)))
        thread.start()
        portal.wait_for(lambda: portal.uploads, "the upload to be announced")
        began = time.monotonic()
        give_up.set()
        thread.join(10)
        assert time.monotonic() - began < 2
        client.close()
    assert (answers, portal.receipt_posts) == ([False], 0)


def test_stopped_upload_begins_no_further_chunk(home: NodeHome, portal: FakePortal, client: PortalClient, tmp_path: Path) -> None:
    order = leased(portal, home)
    upload = blob(tmp_path / "blob", order, os.urandom(MIB))
    stop = threading.Event()

    def note(state: UploadState) -> None:
        if state.offset_bytes:
            stop.set()

    with pytest.raises(PortalInterruptedError):
        upload_send(upload, portal=client, note=note, chunk=ChunkSize(), stop=stop)
    assert [len(found["data"]) for found in portal.uploads.values()] == [CHUNK_BYTES_FIRST]
