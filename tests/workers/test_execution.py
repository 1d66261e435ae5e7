"""Every way in which an order can end, in this process: real portal client over HTTP, real journal, a runtime without containers."""

from __future__ import annotations

import ctypes
import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.workers.portal_fake import FakePortal, RefusedError
from tests.workers.runtime_fake import IMAGE_ID, FakeRuntime
from workers.caps import Caps, NodeSettings
from workers.clock import PortalClock
from workers.coordinator_pin import CoordinatorPin
from workers.execution import Executor
from workers.home import NodeHome
from workers.inputs import InputCache
from workers.journal import Journal, JournalError
from workers.order_run import LAUNCHES_MAX, Launch, Workplace, container_name
from workers.orders import order_open
from workers.portal import PortalClient
from workers.protocol.archives import ArchiveInfo, archive_check, archive_write
from workers.protocol.compute_log import LogWriter, log_check
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages import ExpectedOutput, Failure, FailureCode, ImageReference, Limits, Order, OrderInput, Stage, Usage
from workers.resources import Resources
from workers.run_recorder import RESULT
from workers.runs import Runs
from workers.runtime.interface import RunResult

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


class Bench:
    """An executor with everything around it."""

    def __init__(self, home: NodeHome, portal: FakePortal) -> None:
        self.home, self.portal = home, portal
        self.journal = Journal.open(home.journal_path)
        self.runtime = FakeRuntime()
        self.runs = Runs(lambda: None)
        self.give_up = threading.Event()
        identity, key, profile = home.identity(), home.key(), home.profile()
        self.resources = Resources(Caps.of(NodeSettings.read(home.settings_path), profile), disk_free=lambda: 100 * 2**30)
        self.executor = Executor(
            home=home,
            pin=CoordinatorPin(home, identity),
            key=key,
            profile=profile,
            workplace=Workplace(
                identity=identity,
                journal=self.journal,
                runtime=self.runtime,
                resources=self.resources,
                runs=self.runs,
                cache=InputCache(home.cache_folder / "inputs"),
                clock=PortalClock(),
            ),
            portal_make=lambda: PortalClient(portal.origin, key),
            give_up=self.give_up,
        )

    def accept(self, order: Order) -> None:
        """What the lease client does with an order."""
        opened = order_open(self.portal.envelope(order), coordinator=self.portal.key.public)
        self.portal.leased[order.lease_id] = order
        self.journal.lease_add(
            lease_id=order.lease_id,
            replica_id=order.replica_id,
            envelope=opened.envelope,
            order_digest=opened.digest,
            job_type=order.job_type,
            image=order.image.name,
        )

    def ending(self, order: Order) -> str | None:
        row = self.journal.lease(order.lease_id)
        assert row is not None
        return row.ending


def as_no_root(call: Callable[[], None]) -> None:
    """`call` in a thread without root's right to open every file; under any other user there is nothing to take away."""

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        for place in (0, 1):  # effective and permitted: the first three capabilities are those over files of others
            data[place] &= ~0b111
        assert libc.capset(header, data) == 0
        call()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


@pytest.fixture
def bench(home: NodeHome, portal: FakePortal) -> Bench:
    return Bench(home, portal)


def test_completed_order_leaves_outputs_with_the_portal_and_nothing_here(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    data = b"GYDPETGTWG\n"
    portal.blobs[digest_of(data)] = data
    wanted = OrderInput(
        path="in/chain.fasta", digest=digest_of(data), size_bytes=len(data), url=f"{portal.origin}/api/v1/blobs/{digest_of(data)}"
    )
    order = portal.order_make(key, "copy in/chain.fasta out.fasta", inputs=(wanted,), outputs=(ExpectedOutput(path="out.fasta"),))
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert receipt.outcome == "completed"
    assert receipt.benchmark_gflops == 12.5
    assert receipt.archive is not None
    path = bench.home.folder / "got.tar"
    path.write_bytes(portal.blobs[receipt.archive.digest])
    with path.open("rb") as stream:
        info = archive_check(stream)
    assert [(file.path, file.digest) for file in info.manifest.files] == [("out.fasta", digest_of(data))]
    assert info.result_digest == receipt.result_digest
    assert bench.ending(order) == "recorded"
    assert list(bench.home.work_folder.iterdir()) == []
    assert len(bench.runs) == 0
    assert bench.resources.free().slots == 2


Overrides = Callable[[FakePortal], dict[str, Any]]


@pytest.mark.parametrize(
    ("command", "overrides", "code"),
    [
        pytest.param("exit 3", lambda _: {}, FailureCode.EXIT_NONZERO, id="exit code"),
        pytest.param("fail limit_memory", lambda _: {}, FailureCode.LIMIT_MEMORY, id="limit"),
        pytest.param("fail host_engine", lambda _: {}, FailureCode.HOST_ENGINE, id="engine fails while running"),
        pytest.param("crash", lambda _: {}, FailureCode.HOST_ERROR, id="fault of our own"),
        # 10,000 files are allowed, and so are such names; but the receipt would need 5 MiB.
        pytest.param("many 9900 250", lambda _: {}, FailureCode.OUTPUT_REFUSED, id="more names than a receipt holds"),
        pytest.param("write a 1", lambda _: {"outputs": (ExpectedOutput(path="b"),)}, FailureCode.OUTPUT_MISSING, id="output missing"),
        pytest.param(
            "write a 12345",
            lambda _: {"limits": Limits(wall_seconds=9, memory_bytes=2**24, cpus=1, pids=9, disk_bytes=2**20, output_bytes=3)},
            FailureCode.OUTPUT_REFUSED,
            id="output too large",
        ),
        pytest.param(
            "write a 1",
            lambda _: {"limits": Limits(wall_seconds=9, memory_bytes=2**50, cpus=1, pids=9, disk_bytes=2**20, output_bytes=9)},
            FailureCode.HOST_REFUSED,
            id="beyond the caps",
        ),
        pytest.param(
            "write a 1", lambda _: {"deadline_at": datetime.now(UTC) - timedelta(seconds=1)}, FailureCode.HOST_REFUSED, id="deadline over"
        ),
        pytest.param(
            "write a 1", lambda _: {"node_key_id": PrivateKey.generate().public.key_id}, FailureCode.HOST_REFUSED, id="another node's"
        ),
        pytest.param("write a 1", lambda _: {"origin": "https://other.example.org"}, FailureCode.HOST_REFUSED, id="another portal's"),
        pytest.param(
            "write a 1",
            lambda portal: {"inputs": (OrderInput(path="x", digest=digest_of(b"x"), size_bytes=1, url=portal.blob_url("none")),)},
            FailureCode.INPUT_UNAVAILABLE,
            id="input not there",
        ),
        pytest.param(
            "write a 1",
            lambda _: {"inputs": (OrderInput(path="x", digest=digest_of(b"x"), size_bytes=1, url="http://169.254.169.254/x"),)},
            FailureCode.INPUT_UNAVAILABLE,
            id="input from elsewhere",
        ),
        pytest.param(
            "write a 1",
            lambda portal: {"inputs": (OrderInput(path="x", digest=digest_of(b"x"), size_bytes=1, url=portal.blob_url("wrong")),)},
            FailureCode.INPUT_MISMATCH,
            id="input with other bytes",
        ),
        pytest.param(
            "write a 1",
            lambda portal: {"inputs": (OrderInput(path="x", digest=digest_of(b"x"), size_bytes=1, url=portal.blob_url("long")),)},
            FailureCode.INPUT_MISMATCH,
            id="input too long",
        ),
    ],
)
def test_failure_is_reported_with_its_code(
    bench: Bench, portal: FakePortal, key: PublicKey, *, command: str, overrides: Overrides, code: FailureCode
) -> None:
    portal.blobs |= {"wrong": b"y", "long": b"x" * 100}
    order = portal.order_make(key, command, **overrides(portal))
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert receipt.outcome == "failed"
    assert receipt.failure is not None
    assert receipt.failure.code is code
    assert str(bench.home.folder) not in receipt.failure.message
    assert bench.ending(order) == "recorded"
    assert bench.resources.free().slots == 2


def test_as_many_outputs_as_an_archive_may_hold_fit_a_receipt(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "many 10000 190")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    statement, receipt = portal.receipts[order.replica_id]
    assert (receipt.outcome, len(statement.subjects)) == ("completed", 10_003)


def test_output_that_the_hosts_user_may_not_read_is_the_jobs_fault(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "hide secret")
    bench.accept(order)
    as_no_root(lambda: bench.executor.order_run(order.lease_id))
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert (failure.code, "readable" in failure.message) == (FailureCode.OUTPUT_REFUSED, True)


def test_disk_that_fails_while_outputs_are_packed_is_the_hosts_fault(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "vanish")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert (failure.code, str(bench.home.folder) in failure.message) == (FailureCode.HOST_DISK, False)


def test_image_that_cannot_be_had(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    bench.runtime.images_absent.add("gone")
    order = portal.order_make(key, "write a 1", image=ImageReference(name="gone", image_id="sha256:" + "0" * 64))
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert failure.code is FailureCode.IMAGE_UNAVAILABLE


def test_image_that_the_contributor_does_not_allow(home: NodeHome, portal: FakePortal, key: PublicKey) -> None:
    home.settings_path.write_text('[images]\nallowed = ["trusted.example.org/*"]\n')
    bench = Bench(home, portal)
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert failure.code is FailureCode.HOST_REFUSED
    assert bench.runtime.specs == []


def test_cancelled_before_it_began_runs_nothing(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.runs.add(order.lease_id, deadline_at=order.deadline_at)
    bench.runs.cancel(order.lease_id, FailureCode.HOST_STOPPED, "stopping")
    bench.executor.order_run(order.lease_id)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert failure.code is FailureCode.HOST_STOPPED
    assert bench.runtime.specs == []


def test_inputs_on_their_way_are_reported_in_bytes(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    data, hold = bytes(2**21), threading.Event()
    portal.blobs[digest_of(data)] = data
    portal.blob_cuts[digest_of(data)] = [(2**20, hold)]
    wanted = OrderInput(path="x", digest=digest_of(data), size_bytes=len(data), url=portal.blob_url(digest_of(data)))
    order = portal.order_make(key, "write a 1", inputs=(wanted,))
    bench.accept(order)
    thread = threading.Thread(target=bench.executor.order_run, args=(order.lease_id,))
    thread.start()
    portal.wait_for(lambda: any(lease.progress for lease in bench.runs.reports()), "the first bytes")
    (report,) = bench.runs.reports()
    assert (report.stage, report.message.endswith(" of 2.1 MB"), 0 < (report.progress or 0) <= 0.5) == (Stage.FETCHING, True, True)
    hold.set()
    thread.join(20)
    assert portal.receipts[order.replica_id][1].outcome == "completed"


def test_deadline_that_passes_stops_the_run(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "sleep 60")
    bench.accept(order)
    thread = threading.Thread(target=bench.executor.order_run, args=(order.lease_id,))
    thread.start()
    portal.wait_for(lambda: bench.runtime.specs, "the run to begin")
    bench.runs.deadlines_enforce(order.deadline_at)
    thread.join(10)
    failure = portal.receipts[order.replica_id][1].failure
    assert failure is not None
    assert failure.code is FailureCode.HOST_STOPPED


def test_upload_broken_off_goes_on_where_the_portal_has_it(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.upload_patches_to_break = 2
    order = portal.order_make(key, "write a " + "x" * 5000)
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert portal.receipts[order.replica_id][1].outcome == "completed"
    assert bench.ending(order) == "recorded"


def test_receipt_that_the_portal_refuses_ends_the_lease(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.refusals["/api/v1/receipts"] = RefusedError(409, "receipt_contradiction")
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "refused: receipt_contradiction"


def test_wrong_clock_is_waited_out(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.refusals["/api/v1/receipts"] = RefusedError(401, "signature_stale")
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    threading.Timer(0.6, portal.refusals.clear).start()
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "recorded"


@pytest.mark.parametrize(
    ("method", "refusal"),
    [
        pytest.param("HEAD", RefusedError(401, "signature_stale"), id="wrong clock, told by a body that HEAD has not"),
        pytest.param("POST", RefusedError(401, "signature_replayed"), id="a proxy sent it twice"),
        pytest.param("PATCH", RefusedError(404, "upload_unknown"), id="the upload is gone"),
        pytest.param("PATCH", RefusedError(460, "upload_digest_mismatch"), id="the portal lost what it had staged"),
    ],
)
def test_refusal_of_a_moment_loses_no_finished_work(
    bench: Bench, portal: FakePortal, key: PublicKey, method: str, refusal: RefusedError
) -> None:
    portal.upload_refusals[method] = [refusal]
    portal.upload_patches_to_break = 1
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (portal.upload_refusals[method], bench.ending(order)) == ([], "recorded")


def test_disk_that_is_full_for_a_while_loses_no_finished_work(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    working, failures = bench.journal.upload_progress, [1, 2]

    def failing(*arguments: Any, **named: Any) -> None:
        if failures:
            failures.pop()
            raise JournalError("The journal could not be written: database or disk is full.")
        working(*arguments, **named)

    monkeypatch.setattr(bench.journal, "upload_progress", failing)
    bench.executor.order_run(order.lease_id)
    assert (failures, bench.ending(order)) == ([], "recorded")


def test_upload_that_never_gets_its_digest_ends_the_lease(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.upload_refusals["PATCH"] = [RefusedError(460, "upload_digest_mismatch")] * 50
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "refused: upload_digest_mismatch"


def test_clock_that_was_set_back_gives_no_run_that_ends_before_it_began(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    now = datetime.now(UTC)
    failure = Failure(code=FailureCode.EXIT_NONZERO, message="exit code 3")
    bench.journal.lease_ran(order.lease_id, _result(now + timedelta(hours=1), now, failure=failure))
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert (receipt.failure, receipt.finished_at >= receipt.started_at) == (failure, True)


def _result(started_at: datetime, finished_at: datetime, *, failure: Failure | None = None) -> str:
    """What the journal keeps of a container that has ended."""
    usage = Usage(wall_seconds=1, cpu_seconds=1, memory_peak_bytes=1, samples=0)
    return RESULT.dump_json(RunResult(3 if failure else 0, failure, usage, started_at, finished_at)).decode()


def _launch(bench: Bench, order: Order) -> None:
    """As an earlier process did before it started the container."""
    bench.accept(order)
    bench.journal.lease_launched(order.lease_id, Launch(image_id=IMAGE_ID).model_dump_json())
    (bench.home.work_folder / str(order.lease_id) / "outputs").mkdir(parents=True)


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
    assert (failure.code, len(bench.runtime.specs)) == (FailureCode.HOST_STOPPED, LAUNCHES_MAX)


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


def test_container_that_is_gone_is_started_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    _launch(bench, order)
    bench.executor.order_run(order.lease_id)
    assert (portal.receipts[order.replica_id][1].outcome, len(bench.runtime.specs)) == ("completed", 1)


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


def test_ended_lease_is_not_run_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    bench.executor.order_run(order.lease_id)
    assert len(bench.runtime.specs) == 1
    assert portal.receipt_posts == 1


def test_order_that_the_pinned_key_did_not_sign_is_dropped(bench: Bench, portal: FakePortal, key: PublicKey, tmp_path: Path) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    other = FakePortal()
    try:
        forged = order_open(other.envelope(order), coordinator=other.key.public).envelope
    finally:
        other.stop()
    bench.journal._execute("UPDATE lease SET envelope = ?", forged)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "dropped: key_wrong"
    assert bench.runtime.specs == []
