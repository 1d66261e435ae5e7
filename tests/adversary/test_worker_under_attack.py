"""One worker process, as a contributor runs it, takes one attack after the other. It reports each for what it is, and works on."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from tests.adversary import attacks
from tests.adversary.arena import MIB
from tests.workers.homes import home_make
from tests.workers.portal_fake import FakePortal
from tests.workers.runtime.engines import EngineWire
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.protocol.archives import archive_check
from workers.protocol.canonical import json_parse
from workers.protocol.compute_log import LogLine, log_check
from workers.protocol.digests import digest_of
from workers.protocol.messages.order import ImageReference, Limits, Order, OrderInput
from workers.protocol.messages.receipt import FailureCode, ReceiptPredicate

pytestmark = [pytest.mark.docker, pytest.mark.acceptance]

ATTACKS: list[tuple[list[str], dict[str, Any], FailureCode | None]] = [
    (["fork_bomb"], {"wall_seconds": 2}, FailureCode.LIMIT_WALL),
    (["memory_bomb"], {}, FailureCode.LIMIT_MEMORY),
    (["fill", "/outputs"], {}, FailureCode.LIMIT_OUTPUT),
    (["inodes", "/outputs"], {}, FailureCode.LIMIT_DISK),
    (["unnamed"], {}, FailureCode.LIMIT_DISK),
    (["deep"], {}, FailureCode.LIMIT_DISK),
    (["flood", "1000000000"], {"cpus": 2}, None),
    (["endless_line", str(16 * MIB)], {}, None),
    (["noise"], {}, None),
    (["trick", "symlink", "/etc/shadow"], {}, FailureCode.OUTPUT_REFUSED),
    (["trick", "symlink", "{home}/key"], {}, FailureCode.OUTPUT_REFUSED),
    (["trick", "symlink_folder", "{home}"], {}, FailureCode.OUTPUT_REFUSED),
    (["trick", "fifo"], {}, FailureCode.OUTPUT_REFUSED),
    (["trick", "name", b"\x1b[2J\n".hex()], {}, FailureCode.OUTPUT_REFUSED),
    (["modes"], {}, None),
    (["sleep_on"], {"wall_seconds": 1}, FailureCode.LIMIT_WALL),
]
WORKER_BYTES_MAX = 200 * MIB
ATTACK_SECONDS = 90


@pytest.fixture
def portal() -> Iterator[FakePortal]:
    portal = FakePortal()
    yield portal
    portal.stop()


@pytest.fixture
def home(tmp_path: Path, portal: FakePortal) -> NodeHome:
    return home_make(tmp_path / "home", portal, settings="[worker]\ndrain_seconds = 30\nreport_seconds = 3\n[lend]\nslots = 1\n")


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log", app="nexaportal")
    yield worker
    worker.end()


def test_worker_takes_every_attack_and_then_an_ordinary_job(portal: FakePortal, home: NodeHome, worker: Worker, image_id: str) -> None:
    ordinary = _receipt(portal, _order(portal, home, image_id, "sh", "-c", "echo first > /outputs/said"))
    assert ordinary.outcome == "completed"
    memory_before = _memory_peak(worker)
    found = {}
    for attack, limits, code in ATTACKS:
        command = [part.format(home=home.folder) for part in attack]
        receipt = _receipt(portal, _order(portal, home, image_id, "python3", "/inputs/attacks.py", *command, **limits))
        found[tuple(attack)] = (code, receipt.failure.code if receipt.failure else None)
        _report_check(portal, receipt)
    assert [(attack, *codes) for attack, codes in found.items() if codes[0] is not codes[1]] == []

    last = _receipt(portal, _order(portal, home, image_id, "sh", "-c", "echo last > /outputs/said"))
    assert (last.outcome, last.archive is not None) == ("completed", True)
    memory = _memory_peak(worker)
    print(f"worker: {memory_before / MIB:.0f} MiB at most before {len(ATTACKS)} attacks, {memory / MIB:.0f} MiB after")
    assert memory < WORKER_BYTES_MAX
    _nothing_left_check(portal, home, worker)

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    log = worker.log.read_text(errors="replace")
    assert "INJECTED" not in log
    assert re.search(r"[^\n\t\x20-\x7e\u00a0-\uffff]", log) is None


def test_engine_that_sets_no_limits_is_told_on_and_runs_nothing_more(
    portal: FakePortal, home: NodeHome, tmp_path: Path, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real engine, but each request for 64 processes at most reaches it as one for any number."""
    wire = EngineWire()
    wire.instead = {b'"PidsLimit": 64': b'"PidsLimit": -1'}
    monkeypatch.setenv("DOCKER_HOST", wire.url)
    worker = Worker(home, tmp_path / "worker.log", app="nexaportal")
    try:
        first = _receipt(portal, _order(portal, home, image_id, "sleep", "30"))
        second = _receipt(portal, _order(portal, home, image_id, "true"))
    finally:
        worker.end()
        wire.cut()
    for receipt in (first, second):
        assert receipt.failure is not None
        assert (receipt.failure.code, "pids" in receipt.failure.message) == (FailureCode.HOST_REFUSED, True)
    assert (first.usage.wall_seconds < 10, second.usage.wall_seconds) == (True, 0)


def _order(portal: FakePortal, home: NodeHome, image_id: str, *command: str, **limits: Any) -> Order:
    data = Path(attacks.__file__).read_bytes()
    portal.blobs[digest_of(data)] = data
    defaults = {"wall_seconds": 60, "memory_bytes": 64 * MIB, "cpus": 1, "pids": 64, "disk_bytes": 64 * MIB, "output_bytes": 32 * MIB}
    return portal.order_make(
        home.key().public,
        image=ImageReference(name="nexapod/attacks", image_id=image_id),
        command=command,
        inputs=(OrderInput(path="attacks.py", digest=digest_of(data), size_bytes=len(data), url=portal.blob_url(digest_of(data))),),
        limits=Limits(**(defaults | limits)),
    )


def _receipt(portal: FakePortal, order: Order) -> ReceiptPredicate:
    return portal.receipt_of(portal.order_add(order), seconds=ATTACK_SECONDS)


def _report_check(portal: FakePortal, receipt: ReceiptPredicate) -> None:
    """The log is whole, and the container's words are in its own lines alone; an archive is one; what people read is printable."""
    lines = portal.blobs[receipt.log.digest].splitlines(keepends=True)
    summary = log_check(lines, order_digest=receipt.order_digest, head=receipt.log.head, lines_expected=receipt.log.lines)
    assert summary.output_bytes <= MIB
    for line in lines:
        read = LogLine.model_validate(json_parse(line, limit_bytes=len(line)))
        if read.kind not in {"stdout", "stderr"}:
            assert b"INJECTED" not in line
            assert b"owned" not in line
    if receipt.failure is not None:
        assert receipt.failure.message.isprintable()
    if receipt.archive is not None:
        archive_check(io.BytesIO(portal.blobs[receipt.archive.digest]))


def _nothing_left_check(portal: FakePortal, home: NodeHome, worker: Worker) -> None:
    """Neither on the host nor in what the portal was told."""
    portal.wait_for(lambda: list(home.work_folder.iterdir()) == [], "the work folder to be empty")
    client = docker.from_env()
    try:
        assert client.containers.list(all=True, filters={"label": f"nexapod.home={home.identity().node_id}"}) == []
    finally:
        client.close()
    assert [child.name() for child in psutil.Process(worker.process.pid).children(recursive=True)] == []
    key = (home.folder / "key").read_bytes().strip()
    assert [digest for digest, data in portal.blobs.items() if key in data] == []
    messages = {lease.message for exchange in portal.exchanges for lease in exchange.leases}
    assert any(message.startswith("half ") for message in messages)
    assert [message for message in messages if not message.isprintable()] == []


def _memory_peak(worker: Worker) -> int:
    """What the worker's process held at most since it started."""
    with suppress(OSError):
        text = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024
    return psutil.Process(worker.process.pid).memory_info().rss
