"""Inputs over real HTTP: each byte is fetched once where that can be, whatever breaks, and none is believed unhashed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.home import NodeHome
from workers.inputs import InputCache, InputCancelledError, InputFailedError, inputs_place
from workers.portal import PortalClient, PortalProtocolError, PortalUnreachableError
from workers.protocol.digests import digest_of
from workers.protocol.messages.order import OrderInput
from workers.protocol.messages.receipt import FailureCode

MIB = 2**20
SLACK = 2**29
"""What other work on the machine may write during a test."""


@pytest.fixture
def client(home: NodeHome, portal: FakePortal) -> PortalClient:
    return PortalClient(portal.origin, home.key())


@pytest.fixture
def cache(tmp_path: Path) -> InputCache:
    return InputCache(tmp_path / "cache")


def offered(portal: FakePortal, data: bytes, path: str = "in") -> OrderInput:
    """An input that the portal has."""
    portal.blobs[digest_of(data)] = data
    return OrderInput(path=path, digest=digest_of(data), size_bytes=len(data), url=portal.blob_url(digest_of(data)))


def cached_path(folder: Path, wanted: OrderInput) -> Path:
    return folder / "cache" / wanted.digest.removeprefix("sha256:")


def partial_path(folder: Path, wanted: OrderInput) -> Path:
    return cached_path(folder, wanted).with_suffix(".partial")


def in_thread(call: Callable[..., None], *arguments: Any, **named: Any) -> tuple[threading.Thread, list[Exception]]:
    errors: list[Exception] = []

    def run() -> None:
        try:
            call(*arguments, **named)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_input_is_fetched_once_and_a_damaged_cache_is_noticed(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    wanted, cancel = offered(portal, b"chain"), threading.Event()
    cache.place(wanted, tmp_path / "one" / "a", portal=client, cancel=cancel)
    del portal.blobs[wanted.digest]
    cache.place(wanted, tmp_path / "two" / "a", portal=client, cancel=cancel)
    assert (tmp_path / "two" / "a").read_bytes() == b"chain"
    for damaged in (b"other", b"chain and more", b""):
        portal.blobs[wanted.digest] = b"chain"
        cached_path(tmp_path, wanted).write_bytes(damaged)
        cache.place(wanted, tmp_path / "three", portal=client, cancel=cancel)
        assert (tmp_path / "three").read_bytes() == b"chain"
    cached_path(tmp_path, wanted).write_bytes(b"other")
    del portal.blobs[wanted.digest]
    with pytest.raises(InputFailedError, match="can't be fetched") as failed:
        cache.place(wanted, tmp_path / "four", portal=client, cancel=cancel)
    assert failed.value.code is FailureCode.INPUT_UNAVAILABLE
    assert (list((tmp_path / "cache").iterdir()), (tmp_path / "four").exists()) == ([], False)


def test_cache_keeps_to_its_limit_and_forgets_what_was_not_used_longest(client: PortalClient, portal: FakePortal, tmp_path: Path) -> None:
    folder, cancel = tmp_path / "cache", threading.Event()
    folder.mkdir()
    (folder / ("0" * 64 + ".partial")).write_bytes(b"of a process that was killed")
    cache = InputCache(folder, limit_bytes=25)
    assert list(folder.iterdir()) == []
    wanted = []
    for number, letter in enumerate(b"abcd"):
        wanted.append(offered(portal, bytes([letter]) * 10))
        cache.place(wanted[-1], tmp_path / "in", portal=client, cancel=cancel)
        os.utime(cached_path(tmp_path, wanted[-1]), (number, number))
        if letter == ord("b"):
            cache.place(wanted[0], tmp_path / "in", portal=client, cancel=cancel)
    assert {path.name for path in folder.iterdir()} == {cached_path(tmp_path, wanted[at]).name for at in (0, 3)}
    assert cache.kept_bytes() == 20
    cache.place(offered(portal, bytes(100)), tmp_path / "large", portal=client, cancel=cancel)
    assert ((tmp_path / "large").read_bytes(), list(folder.iterdir())) == (bytes(100), [])


def test_download_broken_off_goes_on_at_its_byte(client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path) -> None:
    wanted = offered(portal, os.urandom(MIB))
    portal.blob_cuts[wanted.digest] = [(700_000, None)]
    with pytest.raises(PortalUnreachableError):
        cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    held_bytes = partial_path(tmp_path, wanted).stat().st_size
    assert 500_000 < held_bytes <= 700_000
    cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert digest_of((tmp_path / "in").read_bytes()) == wanted.digest
    assert portal.blob_requests == [(wanted.digest, None), (wanted.digest, f"bytes={held_bytes}-")]


_CHILD = """
import sys, threading
from pathlib import Path
from workers.home import NodeHome
from workers.inputs import InputCache
from workers.portal import PortalClient
from workers.protocol.messages.order import OrderInput
home, origin, folder, wanted = sys.argv[1:]
folder = Path(folder)
client = PortalClient(origin, NodeHome(Path(home)).key())
InputCache(folder / "cache").place(OrderInput.model_validate_json(wanted), folder / "in", portal=client, cancel=threading.Event())
"""


def test_download_of_a_killed_process_goes_on_at_its_byte(home: NodeHome, client: PortalClient, portal: FakePortal, tmp_path: Path) -> None:
    wanted, hold = offered(portal, os.urandom(2 * MIB)), threading.Event()
    portal.blob_cuts[wanted.digest] = [(MIB, hold)]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(home.folder), portal.origin, str(tmp_path), wanted.model_dump_json()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    partial = partial_path(tmp_path, wanted)
    try:
        portal.wait_for(lambda: partial.exists() and partial.stat().st_size >= MIB - 256 * 1024, "most of the first half")
    finally:
        child.kill()
        child.wait()
        hold.set()
    held_bytes = partial.stat().st_size
    InputCache(tmp_path / "cache").place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert digest_of((tmp_path / "in").read_bytes()) == wanted.digest
    assert portal.blob_requests == [(wanted.digest, None), (wanted.digest, f"bytes={held_bytes}-")]
    assert not partial.exists()


def test_whole_partial_is_not_asked_for_again(client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path) -> None:
    wanted = offered(portal, b"all of it arrived, and then the power went")
    partial_path(tmp_path, wanted).parent.mkdir()
    partial_path(tmp_path, wanted).write_bytes(portal.blobs[wanted.digest])
    cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert ((tmp_path / "in").read_bytes(), portal.blob_requests) == (portal.blobs[wanted.digest], [])


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        pytest.param(b"XXXX", ["bytes=4-", None], id="other bytes"),
        pytest.param(bytes(100), [None], id="too many"),
        pytest.param(b"input of 19 byteX!!", [None], id="as many, but others"),
    ],
)
def test_wrong_partial_is_thrown_away_and_fetched_from_the_start(  # noqa: PLR0917  fixtures and parameters
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path, held: bytes, asked: list[str | None]
) -> None:
    wanted = offered(portal, b"input of 19 bytes!!")
    partial_path(tmp_path, wanted).parent.mkdir()
    partial_path(tmp_path, wanted).write_bytes(held)
    cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert (tmp_path / "in").read_bytes() == portal.blobs[wanted.digest]
    assert portal.blob_requests == [(wanted.digest, first) for first in asked]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        pytest.param(b"other bytes, 19 too", ["bytes=5-", None], id="others"),
        pytest.param(b"more than is wanted", ["bytes=5-", None], id="more"),
        pytest.param(b"few", ["bytes=5-", None], id="fewer than are held"),
    ],
)
def test_bytes_that_are_wrong_from_the_start_are_a_mismatch(  # noqa: PLR0917  fixtures and parameters
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path, given: bytes, asked: list[str | None]
) -> None:
    wanted = offered(portal, b"what the order names"[:18])
    portal.blobs[wanted.digest] = given
    partial_path(tmp_path, wanted).parent.mkdir()
    partial_path(tmp_path, wanted).write_bytes(b"what ")
    with pytest.raises(InputFailedError, match=r"should be 18 bytes .* found (more|3) bytes") as failed:
        cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert failed.value.code is FailureCode.INPUT_MISMATCH
    assert portal.blob_requests == [(wanted.digest, first) for first in asked]
    assert (list((tmp_path / "cache").iterdir()), (tmp_path / "in").exists()) == ([], False)


def test_range_other_than_asked_for_is_no_answer(client: PortalClient, portal: FakePortal) -> None:
    wanted = offered(portal, b"0123456789")
    portal.blob_ranges_off = 1
    with (
        pytest.raises(PortalProtocolError, match="from 4 on; found the range 'bytes 5-9/10'"),
        client.blob(wanted.url, offset_bytes=4, digest=wanted.digest),
    ):
        pass
    with client.blob(wanted.url, offset_bytes=4, digest="sha256:" + "0" * 64) as body:
        assert (body.offset_bytes, b"".join(body.chunks)) == (0, b"0123456789")


def test_two_runs_that_want_the_same_share_one_fetch(client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path) -> None:
    wanted, hold = offered(portal, os.urandom(MIB)), threading.Event()
    portal.blob_cuts[wanted.digest] = [(MIB // 2, hold)]
    seen: dict[str, list[float]] = {"one": [], "two": []}
    threads = []
    for name, fractions in seen.items():

        def show(fraction: float, _: str, kept: list[float] = fractions) -> None:
            kept.append(fraction)

        threads.append(
            in_thread(inputs_place, [wanted], tmp_path / name, cache=cache, portal=client.clone(), cancel=threading.Event(), show=show)
        )
    portal.wait_for(lambda: seen["one"] or seen["two"], "the first bytes")
    hold.set()
    for thread, errors in threads:
        thread.join(20)
        assert (thread.is_alive(), errors) == (False, [])
    assert [digest_of((tmp_path / name / "in").read_bytes()) for name in seen] == [wanted.digest] * 2
    (_, first), (_, second) = portal.blob_requests
    assert (first, second is not None) == (None, True)


def test_inputs_of_an_order_are_fetched_at_once_and_shown(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    wanted = [offered(portal, os.urandom(5 * MIB), path=f"folder/{number}") for number in range(3)]
    hold = threading.Event()
    portal.blob_cuts = {one.digest: [(MIB, hold)] for one in wanted}
    shown: list[tuple[float, str]] = []
    thread, errors = in_thread(
        inputs_place,
        wanted,
        tmp_path / "inputs",
        cache=cache,
        portal=client,
        cancel=threading.Event(),
        show=lambda fraction, text: shown.append((fraction, text)),
    )
    portal.wait_for(lambda: len({digest for digest, _ in portal.blob_requests}) == 3, "three requests at once")
    assert thread.is_alive()
    hold.set()
    thread.join(20)
    assert errors == []
    assert [digest_of((tmp_path / "inputs" / one.path).read_bytes()) for one in wanted] == [one.digest for one in wanted]
    assert shown[-1] == (1.0, "15.7 MB of 15.7 MB")
    assert any(0 < fraction < 0.5 for fraction, _ in shown)


def test_cancel_ends_a_blocked_fetch_within_two_seconds(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    wanted = [offered(portal, os.urandom(5 * MIB), path=f"{number}") for number in range(2)]
    hold, cancel = threading.Event(), threading.Event()
    portal.blob_cuts = {one.digest: [(MIB, hold)] for one in wanted}
    thread, errors = in_thread(
        inputs_place, wanted, tmp_path / "inputs", cache=cache, portal=client, cancel=cancel, show=lambda _, __: None
    )
    try:
        portal.wait_for(
            lambda: all(partial_path(tmp_path, one).exists() and partial_path(tmp_path, one).stat().st_size >= MIB // 2 for one in wanted),
            "both to block in a read",
        )
        began = time.monotonic()
        cancel.set()
        thread.join(10)
        assert time.monotonic() - began < 2
    finally:
        hold.set()
    assert [type(error) for error in errors] == [InputCancelledError]
    assert [running.name for running in threading.enumerate() if running.name == "nexa-transfer"] == []


def test_input_that_cannot_be_had_breaks_the_others_off(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    large, hold = offered(portal, os.urandom(5 * MIB), path="large"), threading.Event()
    portal.blob_cuts[large.digest] = [(MIB, hold)]
    absent = large.model_copy(update={"path": "absent", "digest": digest_of(b"?"), "url": portal.blob_url("none")})
    began = time.monotonic()
    try:
        with pytest.raises(InputFailedError, match="absent can't be fetched"):
            inputs_place([large, absent], tmp_path, cache=cache, portal=client, cancel=threading.Event(), show=lambda _, __: None)
        assert time.monotonic() - began < 5
    finally:
        hold.set()


def test_waiting_for_the_fetch_of_another_run_can_be_cancelled(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    wanted, hold, cancel = offered(portal, os.urandom(MIB)), threading.Event(), threading.Event()
    portal.blob_cuts[wanted.digest] = [(1000, hold)]
    first, _ = in_thread(cache.place, wanted, tmp_path / "one", portal=client, cancel=threading.Event())
    portal.wait_for(lambda: portal.blob_requests, "the first to fetch")
    cancel.set()
    with pytest.raises(InputCancelledError):
        cache.place(wanted, tmp_path / "two", portal=client.clone(), cancel=cancel)
    hold.set()
    first.join(10)
    assert not first.is_alive()


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(RefusedError(401, "signature_stale"), id="wrong clock"),
        pytest.param(RefusedError(401, "signature_invalid"), id="a proxy changed a header"),
        pytest.param(RefusedError(403, "account_inactive"), id="account closed by mistake"),
        pytest.param(RefusedError(302, ""), id="a proxy's way to a page"),
        pytest.param(RefusedError(404, ""), id="a proxy's page"),
    ],
)
def test_what_is_no_word_about_an_input_is_waited_out(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path, refusal: RefusedError
) -> None:
    wanted = offered(portal, b"x")
    portal.refusals[f"/api/v1/blobs/{wanted.digest}"] = refusal
    threading.Timer(0.6, portal.refusals.clear).start()
    inputs_place([wanted], tmp_path, cache=cache, portal=client, cancel=threading.Event(), show=lambda _, __: None)
    assert (tmp_path / "in").read_bytes() == b"x"


def test_full_disk_loses_the_cache_before_it_fails_a_run(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    old, wanted = offered(portal, b"not needed now"), offered(portal, b"wanted")
    cache.place(old, tmp_path / "old", portal=client, cancel=threading.Event())
    (tmp_path / "in").symlink_to("/dev/full")  # every write fails as on a full disk; the second try finds the link removed
    cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert ((tmp_path / "in").read_bytes(), (tmp_path / "in").is_symlink()) == (b"wanted", False)
    assert (cached_path(tmp_path, old).exists(), cached_path(tmp_path, wanted).exists()) == (False, True)


def test_full_disk_with_nothing_to_lose_fails_and_leaves_nothing_half_written(
    client: PortalClient, portal: FakePortal, cache: InputCache, tmp_path: Path
) -> None:
    wanted = offered(portal, b"wanted")
    (tmp_path / "in").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        cache.place(wanted, tmp_path / "in", portal=client, cancel=threading.Event())
    assert (os.path.lexists(tmp_path / "in"), list((tmp_path / "cache").glob("*.partial"))) == (False, [])


def test_inputs_that_would_not_fit_beside_the_reserve_are_not_begun(client: PortalClient, portal: FakePortal, tmp_path: Path) -> None:
    old, wanted = offered(portal, b"not needed now"), offered(portal, b"wanted")
    cache = InputCache(tmp_path / "cache")
    cache.place(old, tmp_path / "old", portal=client, cancel=threading.Event())
    portal.blob_requests.clear()
    cases = [
        (InputCache(tmp_path / "cache", reserve_bytes=2**60), wanted),
        (cache, wanted.model_copy(update={"size_bytes": 2**60})),
    ]
    for full, one in cases:
        with pytest.raises(OSError, match="No space left"):
            inputs_place([one], tmp_path, cache=full, portal=client, cancel=threading.Event(), show=lambda _, __: None)
    assert (portal.blob_requests, cached_path(tmp_path, old).exists()) == ([], False)


def test_room_is_made_for_inputs_that_would_not_fit_beside_the_cache(client: PortalClient, portal: FakePortal, tmp_path: Path) -> None:
    old, wanted = offered(portal, os.urandom(1000)), offered(portal, os.urandom(1000))
    free_bytes = shutil.disk_usage(tmp_path).free
    cache = InputCache(tmp_path / "cache", limit_bytes=2**60, reserve_bytes=free_bytes - SLACK)
    (tmp_path / "cache").mkdir()
    with cached_path(tmp_path, old).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 3 * SLACK)
    inputs_place([wanted], tmp_path / "run", cache=cache, portal=client, cancel=threading.Event(), show=lambda _, __: None)
    assert cached_path(tmp_path, old).exists() is False
    assert (tmp_path / "run" / "in").read_bytes() == portal.blobs[wanted.digest]
