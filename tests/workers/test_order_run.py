"""Runs that are lost, found again, or taken up where an earlier process left them; disks that are full meanwhile."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.workers.executor_bench import Bench
from tests.workers.portal_fake import FakePortal
from tests.workers.runtime_fake import IMAGE_ID
from workers.journal import JournalError
from workers.order_run import LAUNCHES_MAX, Launch, container_name
from workers.orders import order_open
from workers.protocol.archives import ArchiveInfo, archive_write
from workers.protocol.compute_log import LogWriter, log_check
from workers.protocol.keys import PublicKey
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import Failure, FailureCode, Usage
from workers.run_recorder import RESULT
from workers.runtime.interface import RunResult

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


def _result(started_at: datetime, finished_at: datetime, *, failure: Failure | None = None) -> str:
    """What the journal keeps of a container that has ended."""
    usage = Usage(wall_seconds=1, cpu_seconds=1, memory_peak_bytes=1, samples=0)
    return RESULT.dump_json(RunResult(3 if failure else 0, failure, usage, started_at, finished_at)).decode()


def _launch(bench: Bench, order: Order) -> None:
    """As an earlier process did before it started the container."""
    bench.accept(order)
    bench.journal.lease_launched(order.lease_id, Launch(image_id=IMAGE_ID).model_dump_json())
    (bench.home.work_folder / str(order.lease_id) / "outputs").mkdir(parents=True)


def test_clock_that_was_set_back_gives_no_run_that_ends_before_it_began(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    now = datetime.now(UTC)
    failure = Failure(code=FailureCode.EXIT_NONZERO, message="exit code 3")
    bench.journal.lease_ran(order.lease_id, _result(now + timedelta(hours=1), now, failure=failure))
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.failure, receipt.finished_at >= receipt.started_at) == (failure, True)


def test_run_that_was_lost_is_run_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.losses = 2
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.outcome, len(bench.runtime.specs)) == ("completed", 3)
    log = portal.blobs[receipt.log.digest].decode()
    assert (log.count('"engine_lost"'), log.count('"container_started"'), log.count('"container_ended"')) == (2, 3, 1)


def test_run_that_is_lost_again_and_again_is_given_back(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.losses = 100
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert (failure.code, len(bench.runtime.specs)) == (FailureCode.HOST_GAVE_UP, LAUNCHES_MAX)


def test_engine_that_is_away_is_waited_for(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.losses, bench.runtime.away = 1, True
    threading.Timer(0.5, lambda: setattr(bench.runtime, "away", False)).start()
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert portal.receipts[order.replica_id][1].outcome == "completed"


def test_engine_that_stays_away_is_waited_for_until_the_deadline(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.losses, bench.runtime.away = 1, True
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    thread = threading.Thread(target=bench.executor.order_run, args=(order.lease_id,))
    thread.start()
    portal.wait_for(lambda: bench.runtime.specs, "the run to begin")
    bench.runs.deadlines_enforce(order.deadline_at)
    thread.join(10)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert "deadline" in failure.message


def test_container_of_an_earlier_process_is_followed_to_its_end(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    now = datetime.now(UTC)
    bench.runtime.found[container_name(order.lease_id)] = RESULT.validate_json(_result(now, now))
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.outcome, bench.runtime.specs) == ("completed", [])
    assert '"container_adopted"' in portal.blobs[receipt.log.digest].decode()


def test_container_that_the_engine_cannot_be_asked_about_is_asked_about_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.adoptions_lost = 2
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    now = datetime.now(UTC)
    bench.runtime.found[container_name(order.lease_id)] = RESULT.validate_json(_result(now, now))
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.outcome, bench.runtime.specs, bench.runtime.adoptions) == ("completed", [], 3)


def test_container_that_the_engine_can_never_be_asked_about_is_let_go_at_the_deadline(
    bench: Bench, portal: FakePortal, key: PublicKey
) -> None:
    bench.runtime.adoptions_lost = 10**9
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    thread = threading.Thread(target=bench.executor.order_run, args=(order.lease_id,))
    thread.start()
    portal.wait_for(lambda: bench.runtime.adoptions >= 2, "the container to be asked about again")
    bench.runs.deadlines_enforce(order.deadline_at)
    thread.join(10)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert "deadline" in failure.message
    assert (bench.runtime.specs, bench.runtime.adoptions < 10) == ([], True)


def test_container_that_is_gone_is_started_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    bench.executor.order_run(order.lease_id)
    assert (portal.receipts[order.replica_id][1].outcome, len(bench.runtime.specs)) == ("completed", 1)


def test_what_an_earlier_run_left_and_cannot_be_removed_is_the_hosts_fault(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    folder = bench.home.work_folder / str(order.lease_id)
    folder.mkdir(parents=True)
    (folder / "outputs").write_text("no folder, as little as one that is another user's")
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert (failure.code, "can't be removed" in failure.message) == (FailureCode.HOST_DISK, True)
    assert bench.runtime.specs == []


def test_result_that_is_known_is_not_computed_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    (bench.home.work_folder / str(order.lease_id) / "outputs" / "a").write_text("1")
    now = datetime.now(UTC)
    bench.journal.lease_ran(order.lease_id, _result(now, now))
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.outcome, receipt.image_id, bench.runtime.specs) == ("completed", IMAGE_ID, [])


def test_log_that_was_ended_but_never_signed_is_gone_on_with(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    bench.journal.lease_started(order.lease_id)
    with (bench.home.work_folder / str(order.lease_id) / "log.jsonl").open("w+b") as file:
        writer = LogWriter(file, order_open(portal.envelope(order), coordinator=portal.key.public).digest)
        writer.start({})
        writer.output("stdout", b"written before")
        writer.end({"outcome": "completed"})
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    lines = portal.blobs[receipt.log.digest].splitlines(keepends=True)
    log_check(lines, order_digest=receipt.order_digest, head=receipt.log.head, lines_expected=receipt.log.lines)
    assert (b"written before" in lines[1], b'"resumed"' in lines[2]) == (True, True)


def test_disk_that_is_full_while_outputs_are_packed_is_waited_out(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing, failures = archive_write, [1, 2]

    def failing(*arguments: Any, **named: Any) -> ArchiveInfo:
        if failures:
            failures.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return packing(*arguments, **named)

    monkeypatch.setattr("workers.order_run.archive_write", failing)
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (failures, portal.receipts[order.replica_id][1].outcome, len(bench.runtime.specs)) == ([], "completed", 1)


def test_journal_that_is_full_as_a_container_ends_costs_no_second_run(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = iter([True, True, True])

    def failing(*_: Any) -> None:
        raise JournalError("The journal could not be written: database or disk is full.")

    def until_there_is_room(write: Callable[..., None]) -> Callable[..., None]:
        return lambda *given, **named: failing() if next(full, False) else write(*given, **named)

    for name in ("lease_ran", "lease_finished"):
        monkeypatch.setattr(bench.journal, name, until_there_is_room(getattr(bench.journal, name)))
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (next(full, None), portal.receipts[order.replica_id][1].outcome, len(bench.runtime.specs)) == (None, "completed", 1)


def test_disk_that_is_full_while_a_known_result_is_packed_is_waited_out(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    now = datetime.now(UTC)
    bench.journal.lease_ran(order.lease_id, _result(now, now))
    failures = [1]

    def failing(*arguments: Any, **named: Any) -> ArchiveInfo:
        if failures:
            failures.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return archive_write(*arguments, **named)

    monkeypatch.setattr("workers.order_run.archive_write", failing)
    bench.executor.order_run(order.lease_id)
    assert (failures, portal.receipts[order.replica_id][1].outcome) == ([], "completed")


def test_cancelled_lease_that_nothing_can_be_written_for_is_let_go(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.home.work_folder.parent.mkdir(parents=True, exist_ok=True)
    bench.home.work_folder.write_text("no folder")
    bench.runs.add(order.lease_id, deadline_at=order.deadline_at)
    bench.runs.cancel(order.lease_id, FailureCode.HOST_GAVE_UP, "over")
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "given up: host_gave_up"


def test_container_of_a_run_that_is_cancelled_meanwhile_is_not_left_alone(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    now = datetime.now(UTC)
    failure = Failure(code=FailureCode.CANCELLED, message="Cancelled while the container ran.")
    bench.runtime.found[container_name(order.lease_id)] = RESULT.validate_json(_result(now, now, failure=failure))
    bench.runs.add(order.lease_id, deadline_at=order.deadline_at)
    bench.runs.cancel(order.lease_id, FailureCode.CANCELLED, "The job was concluded.")
    bench.executor.order_run(order.lease_id)
    assert (bench.runtime.found, bench.runtime.specs) == ({}, [])
    assert portal.receipts[order.replica_id][1].failure == Failure(code=FailureCode.CANCELLED, message="The job was concluded.")
