"""A worker process that is killed in the middle of a transfer: the next one sends and fetches only what is missing."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.journal import Journal
from workers.protocol.digests import digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.order import Limits, OrderInput
from workers.status import status_read

pytestmark = pytest.mark.acceptance

MIB = 2**20
LIMITS = Limits(wall_seconds=60, memory_bytes=64 * MIB, cpus=0.5, pids=64, disk_bytes=64 * MIB, output_bytes=16 * MIB)


def test_killed_while_fetching_the_next_worker_goes_on_at_the_byte(
    portal: FakePortal, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    data, hold = os.urandom(2 * MIB), threading.Event()
    digest = digest_of(data)
    portal.blobs[digest] = data
    portal.blob_cuts[digest] = [(MIB, hold)]
    wanted = OrderInput(path="x", digest=digest, size_bytes=len(data), url=portal.blob_url(digest))
    order = portal.order_make(key, "copy x y", inputs=(wanted,), limits=LIMITS)
    partial = home.cache_folder / "inputs" / f"{digest.removeprefix('sha256:')}.partial"
    first = Worker(home, tmp_path / "first.log")
    try:
        portal.order_add(order)
        told = " of 2.1 MB"
        portal.wait_for(
            lambda: any(told in lease.message and lease.progress for exchange in portal.exchanges for lease in exchange.leases),
            "the portal to hear how far the input has come",
        )
        journal = Journal.read_only(home.journal_path)
        portal.wait_for(lambda: told in journal.leases_open()[0].message, "the journal to say so, for `nexa status`")
        assert journal.leases_open()[0].stage is Stage.FETCHING
        assert told in status_read(home).leases[0].message
        journal.close()
        portal.wait_for(lambda: partial.stat().st_size >= MIB // 2, "half of the half")
        first.signal(signal.SIGKILL)
        first.wait()
    finally:
        first.end()
        hold.set()
    held_bytes = partial.stat().st_size
    second = Worker(home, tmp_path / "second.log")
    try:
        receipt = portal.receipt_of(order)
    finally:
        second.end()
    assert receipt.outcome == "completed"
    assert portal.blob_requests == [(digest, None), (digest, f"bytes={held_bytes}-")]


def test_killed_while_uploading_the_next_worker_goes_on_at_the_byte(
    portal: FakePortal, home: NodeHome, key: PublicKey, tmp_path: Path
) -> None:
    data = os.urandom(3 * MIB)
    portal.blobs[digest_of(data)] = data
    wanted = OrderInput(path="x", digest=digest_of(data), size_bytes=len(data), url=portal.blob_url(digest_of(data)))
    order = portal.order_make(key, "copy x y", inputs=(wanted,), limits=LIMITS)
    portal.upload_gate = threading.Event()
    first = Worker(home, tmp_path / "first.log")
    try:
        portal.order_add(order)
        portal.wait_for(lambda: portal.uploads_held, "an upload in its middle")
        portal.wait_for(
            lambda: any(
                lease.stage is Stage.UPLOADING and " of 3.1 MB" in lease.message
                for exchange in portal.exchanges
                for lease in exchange.leases
            ),
            "the portal to hear how far the uploads have come",
        )
        first.signal(signal.SIGKILL)
        first.wait()
    finally:
        first.end()
    (path,) = portal.uploads_held
    portal.upload_gate.set()
    portal.wait_for(lambda: portal.uploads_held == [], "the chunk that was under way to be taken")
    had_bytes = len(portal.uploads[path]["data"])
    second = Worker(home, tmp_path / "second.log")
    try:
        receipt = portal.receipt_of(order)
    finally:
        second.end()
    assert receipt.outcome == "completed"
    offsets = [offset for patched, offset in portal.upload_offsets if patched == path]
    assert (offsets == sorted(set(offsets)), had_bytes in offsets, had_bytes > MIB) == (True, True, True)
