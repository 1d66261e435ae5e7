"""Reading a log over HTTP and from files: bounded, patient, and careful with what strangers send."""

from __future__ import annotations

import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from client.audit import portal_source
from client.audit.auditing import log_audit
from client.audit.errors import AbsentError, SourceError, SourceTooSlowError, WorkFolderError
from client.audit.folder_source import FolderSource
from client.audit.last_run import Memory
from client.audit.portal_source import TRIES, PortalSource
from client.audit.source import BundleMalformedError, bundle_split, entries_read
from client.audit.time_limit import TimeLimit
from tests.client.audit.test_log import long_log
from tests.client.scripted_portal import Answer, Asked, scripted_portal
from tests.factories.logs import COORDINATOR, ORIGIN, log_write
from workers.portal import PortalProtocolError


def source_of(script: Callable[[Asked], Answer], read: Callable[[PortalSource], bytes]) -> tuple[bytes, list[Asked]]:
    with scripted_portal(script) as portal:
        return read(PortalSource(portal.origin, pause_seconds=0.0)), portal.asked


def read(source: PortalSource) -> bytes:
    return source.read("ledger/checkpoint", limit_bytes=10)


def test_an_object_is_read_from_the_public_address_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    data, asked = source_of(lambda _: Answer(body=b"0123456789"), read)
    assert data == b"0123456789"
    assert [one.path for one in asked] == ["/api/v1/ledger/checkpoint"]
    assert "authorization" not in asked[0].headers
    assert asked[0].headers["accept-encoding"] == "identity"


def test_an_object_beyond_its_limit_is_not_taken() -> None:
    with pytest.raises(SourceError, match="larger than the 10 bytes"):
        source_of(lambda _: Answer(body=b"01234567890"), read)


def test_a_packed_answer_is_not_unpacked() -> None:
    data, _ = source_of(lambda _: Answer(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}), read)
    assert data == b"\x1f\x8b\x08"


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_absent_and_asked_for_once(status: int) -> None:
    with scripted_portal(lambda _: Answer(status)) as portal:
        with pytest.raises(AbsentError):
            read(PortalSource(portal.origin, pause_seconds=0.0))
        assert len(portal.asked) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403])
def test_a_refusal_is_not_repeated_and_a_redirect_not_followed(status: int) -> None:
    with scripted_portal(lambda _: Answer(status, headers={"Location": "/elsewhere"})) as portal:
        with pytest.raises(SourceError, match=str(status)):
            read(PortalSource(portal.origin, pause_seconds=0.0))
        assert len(portal.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(status: int) -> None:
    answers = iter([Answer(status), Answer(status), Answer(body=b"yes")])
    data, asked = source_of(lambda _: next(answers), read)
    assert data == b"yes"
    assert len(asked) == 3


def test_a_failure_that_does_not_pass_is_given_up() -> None:
    with scripted_portal(lambda _: Answer(503)) as portal:
        with pytest.raises(SourceError, match="503"):
            read(PortalSource(portal.origin, pause_seconds=0.0))
        assert len(portal.asked) == TRIES


def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    answers = iter([Answer(body=b"whole", body_cut=2), Answer(body=b"whole")])
    data, asked = source_of(lambda _: next(answers), read)
    assert data == b"whole"
    assert len(asked) == 2


OK = b"HTTP/1.1 200 OK\r\n"
DRIPPING: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"HTTP/1.1 200 ", b"x"),
    "a header": (OK + b"Server: ", b"x"),
    "headers": (OK, b"a: b\r\n"),
    "before the answer": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (OK + b"Content-Length: 600\r\n\r\n", b"x"),
    "body of no length": (OK + b"Connection: close\r\n\r\n", b"x"),
    "length of a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    "nothing": (b"", b""),
}
"""What a server sends at once, and what it sends twenty times a second from then on."""


@pytest.mark.parametrize("what", DRIPPING)
def test_an_answer_that_drips_is_given_up_long_before_it_is_whole(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal_source, "OBJECT_SECONDS_MAX", 0.3)
    stopped = threading.Event()
    first, drop = DRIPPING[what]

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(first)
            while not stopped.wait(0.05):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as dripping:
        dripping.submit(drip, server)
        began = time.monotonic()
        try:
            with pytest.raises(SourceTooSlowError, match="did not arrive") as caught:
                PortalSource(f"http://127.0.0.1:{server.getsockname()[1]}").read("ledger/checkpoint", limit_bytes=1000)
        finally:
            stopped.set()
    assert caught.value.code == "source_too_slow"
    assert time.monotonic() - began < 10  # a whole one would take 30, and most of these have no end


def test_a_time_limit_ends_with_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is kept, and the next request over it has a time of its own."""
    monkeypatch.setattr(portal_source, "OBJECT_SECONDS_MAX", 1.0)
    with scripted_portal(lambda _: Answer(body=b"x")) as portal:
        source, began = PortalSource(portal.origin, pause_seconds=0.0), time.monotonic()
        asked = 0
        while time.monotonic() - began < 1.3:
            assert read(source) == b"x"
            asked += 1
        assert len(portal.asked) == asked


def test_a_connection_that_comes_after_the_time_is_cut_at_once() -> None:
    here, there = socket.socketpair()
    with here, there:
        limit = TimeLimit()
        limit.end()
        limit.connection_watch(here)
        assert there.recv(1) == b""


def test_a_portal_that_is_not_there() -> None:
    with scripted_portal(lambda _: Answer()) as portal:
        origin = portal.origin
    with pytest.raises(SourceError, match="can't be read"):
        read(PortalSource(origin, pause_seconds=0.0))


@pytest.mark.parametrize("origin", ["ftp://a", "https://", "https://a/b", "https://u@a", "a"])
def test_an_address_that_is_none(origin: str) -> None:
    with pytest.raises(PortalProtocolError):
        PortalSource(origin)


def test_a_whole_log_over_http_with_several_connections(tmp_path: Path, memory: Memory) -> None:
    folder = log_write(tmp_path / "log", long_log(2000)).folder

    def script(asked: Asked) -> Answer:
        path = folder / asked.path.removeprefix("/api/v1/")
        if asked.path == "/api/v1/coordinator":
            # This server has another name than the log's portal.
            return Answer(body=path.read_bytes().replace(ORIGIN.encode(), portal.origin.encode()))
        return Answer(body=path.read_bytes()) if path.is_file() else Answer(404)

    (tmp_path / "work").mkdir()
    with scripted_portal(script) as portal:
        name = portal.origin.removeprefix("http://")
        written = log_write(tmp_path / "renamed", [])
        written.log = f"{name}/ledger"
        written.append(long_log(2000))
        written.sign()
        folder = written.folder
        report = log_audit(
            PortalSource(portal.origin), pinned=COORDINATOR.public.key_id, memory=memory, folder=tmp_path / "work", progress=None
        )
    assert report.is_clean, report.findings.kept
    assert report.size == 2000


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_of_a_mirror_is_bounded_and_must_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger/large").write_bytes(bytes(11))
    os.mkfifo(tmp_path / "ledger/pipe")
    source = FolderSource(tmp_path)
    with pytest.raises(SourceError, match="larger"):
        source.read("ledger/large", limit_bytes=10)
    for absent in ("ledger/none", "ledger/pipe", "ledger"):
        with pytest.raises(AbsentError):
            source.read(absent, limit_bytes=10)


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_split_where_its_lengths_say() -> None:
    assert bundle_split(b"\x00\x01a\x00\x00\x00\x02bc", 3) == [b"a", b"", b"bc"]
    assert bundle_split(b"\x00\x01a\x00\x00\x00\x02bc", 2) == [b"a", b""]


def test_a_bundle_of_millions_of_empty_entries_takes_no_memory() -> None:
    data = bytes(16 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(BundleMalformedError):
            bundle_split(data, 256)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x00" * 257])
def test_a_bundle_that_is_none(data: bytes) -> None:
    with pytest.raises(BundleMalformedError):
        bundle_split(data, 1)


def test_a_partial_bundle_may_have_become_a_full_one(tmp_path: Path) -> None:
    leaves = long_log(256)
    log_write(tmp_path, leaves)
    assert entries_read(FolderSource(tmp_path), 0, 10) == leaves[:10]


def test_a_folder_that_cannot_hold_what_is_remembered(tmp_path: Path, memory: Memory) -> None:
    folder = log_write(tmp_path / "log", []).folder
    with pytest.raises(WorkFolderError, match="TMPDIR") as caught:
        log_audit(FolderSource(folder), pinned=None, memory=memory, folder=tmp_path / "nowhere")
    assert caught.value.code == "work_folder_unusable"
