"""Finished work that can't be handed in at once: what is tried again, for how long, and what is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.workers.executor_bench import Bench
from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.backoff import Backoff
from workers.home import NodeHome
from workers.journal import UploadRow
from workers.portal import RETRY_AFTER_SECONDS_MAX, PortalClient, PortalTooLargeError, PortalUnreachableError
from workers.protocol.digests import digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.messages.order import Order
from workers.retrying import portal_retry
from workers.uploads import CHUNK_BYTES_FIRST, ChunkSize, upload_send


class Meanwhile(threading.Event):
    """What is waited on between two tries: time doesn't pass, instead `happens` is called."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        self.happens()
        return self.is_set()


def finished(home: NodeHome, portal: FakePortal, key: PublicKey, give_up: Meanwhile) -> tuple[Bench, Order]:
    """An executor, and an order that it has run and could not report. What happens between two tries from here on is `give_up`'s."""
    bench = Bench(home, portal, give_up=give_up)
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    happens, give_up.happens, portal.outage = give_up.happens, give_up.set, True
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), len(bench.runtime.specs)) == (None, 1)
    give_up.happens, portal.outage = happens, False
    give_up.clear()
    give_up.seconds.clear()
    return bench, order


def test_files_that_can_not_be_read_now_are_read_later(home: NodeHome, portal: FakePortal, key: PublicKey) -> None:
    aside = home.folder / "aside"

    def mend() -> None:
        (folder / "log.jsonl").rmdir()
        aside.rename(folder / "log.jsonl")

    give_up = Meanwhile(mend)
    bench, order = finished(home, portal, key, give_up)
    folder = home.work_folder / str(order.lease_id)
    (folder / "log.jsonl").rename(aside)
    (folder / "log.jsonl").mkdir()  # an error of the system's, and not that there is no such file
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), len(give_up.seconds), portal.receipt_posts) == ("recorded", 1, 1)


@pytest.mark.parametrize("code", ["body_too_large", "json_too_large", ""], ids=["problem", "problem of the portal", "page of a proxy"])
def test_bytes_that_a_proxy_does_not_let_through_at_once_are_uploaded(
    home: NodeHome, portal: FakePortal, key: PublicKey, code: str
) -> None:
    bench, order = finished(home, portal, key, Meanwhile(portal.refusals.clear))
    portal.refusals["/api/v1/receipts"] = RefusedError(413, code)
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), len(portal.uploads), portal.blobs_along) == ("recorded", 2, [])


def test_however_often_a_request_is_too_large_its_receipt_is_not_refused(home: NodeHome, portal: FakePortal, key: PublicKey) -> None:
    tries = iter(range(20))

    def relent() -> None:
        if next(tries, None) is None:
            portal.refusals.clear()

    bench, order = finished(home, portal, key, Meanwhile(relent))
    portal.refusals["/api/v1/receipts"] = RefusedError(413, "body_too_large")
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "recorded"


def test_a_chunk_that_is_refused_for_its_size_is_smaller_next_time(home: NodeHome, portal: FakePortal, tmp_path: Path) -> None:
    order = portal.order_make(home.key().public)
    portal.leased[order.lease_id] = order
    data = b"x" * CHUNK_BYTES_FIRST
    (tmp_path / "blob").write_bytes(data)
    upload = UploadRow(order.lease_id, digest_of(data), len(data), tmp_path / "blob", None, 0)
    portal.upload_refusals["PATCH"] = [RefusedError(413, "body_too_large")]
    client, chunk, never = PortalClient(portal.origin, home.key()), ChunkSize(), threading.Event()
    with pytest.raises(PortalTooLargeError):
        upload_send(upload, portal=client, note=lambda _: None, chunk=chunk, stop=never)
    assert chunk.size_bytes == CHUNK_BYTES_FIRST // 4
    upload_send(upload, portal=client, note=lambda _: None, chunk=chunk, stop=never)
    assert portal.blobs[upload.digest] == data


DATE = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("86400", RETRY_AFTER_SECONDS_MAX),
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        ("in a moment", 0),
        ("-3", 0),
        ("", 0),
        ("Fri, 27 Nov 2020 12:00:00 GMT", 0),
        ("Fri, 27 Nov 2099 12:00:00 GMT", RETRY_AFTER_SECONDS_MAX),
        ("Fri, 27 Nov 2099 12:00:00 -0000", 0),
    ],
)
def test_what_a_portal_says_about_when_to_try_again(home: NodeHome, portal: FakePortal, said: str, seconds: float) -> None:
    refusal = portal.refusals["/api/v1/coordinator"] = RefusedError(503, "temporarily_unavailable")
    refusal.headers = {"Retry-After": said}
    with pytest.raises(PortalUnreachableError) as caught:
        PortalClient(portal.origin, None).coordinator()
    assert caught.value.retry_after_seconds == seconds


def test_who_is_asked_to_wait_waits_and_is_spread_beyond() -> None:
    answers = iter([PortalUnreachableError("busy", retry_after_seconds=7), PortalUnreachableError("away")])

    def step() -> None:
        if error := next(answers, None):
            raise error

    stop = Meanwhile(lambda: None)
    assert portal_retry(step, stop=stop, backoff=Backoff(uniform=lambda _, high: high))
    assert stop.seconds == [7.5, 1.0]
