"""Every way in which an order can end, in this process: real portal client over HTTP, real journal, a runtime without containers."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.workers.executor_bench import Bench
from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.home import NodeHome
from workers.journal import JournalError, UploadRow
from workers.orders import order_open
from workers.protocol.archives import archive_check
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.delivery import RECEIPT_BLOB_BYTES_MAX
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.order import ExpectedOutput, ImageReference, Limits, OrderInput
from workers.protocol.messages.receipt import FailureCode
from workers.reporting import REPORT_GRACE, UPLOADS_AGAIN_MAX

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


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


def test_receipt_does_not_grow_with_the_outputs(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "many 10000 190")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    statement, receipt = portal.receipts[order.replica_id]
    assert (receipt.outcome, len(statement.subjects)) == ("completed", 3)


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
    assert failure.code is FailureCode.HOST_GAVE_UP


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


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(RefusedError(401, "signature_stale"), id="wrong clock"),
        pytest.param(RefusedError(401, "signature_invalid"), id="a proxy changed a header"),
        pytest.param(RefusedError(401, "node_unknown"), id="portal set back"),
        pytest.param(RefusedError(403, "account_inactive"), id="account closed by mistake"),
    ],
)
def test_refusal_of_the_sender_is_waited_out(bench: Bench, portal: FakePortal, key: PublicKey, refusal: RefusedError) -> None:
    portal.refusals["/api/v1/receipts"] = refusal
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    threading.Timer(0.6, portal.refusals.clear).start()
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "recorded"


@pytest.mark.parametrize("code", ["node_revoked", "key_retired"])
def test_refusal_of_the_sender_that_is_for_good_ends_the_lease(bench: Bench, portal: FakePortal, key: PublicKey, code: str) -> None:
    portal.refusals["/api/v1/receipts"] = RefusedError(403, code)
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == f"refused: {code}"


def test_receipt_whose_own_signature_is_refused_ends_the_lease(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.receipt_refusals = [RefusedError(401, "key_wrong")]
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "refused: key_wrong"


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
    portal.blob_along_bytes_max = 0
    portal.upload_refusals[method] = [refusal]
    portal.upload_patches_to_break = 1
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (portal.upload_refusals[method], bench.ending(order)) == ([], "recorded")


def test_disk_that_is_full_for_a_while_loses_no_finished_work(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.blob_along_bytes_max = 0
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
    portal.blob_along_bytes_max = 0
    portal.upload_refusals["PATCH"] = [RefusedError(460, "upload_digest_mismatch")] * 50
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "refused: upload_digest_mismatch"


def test_small_blobs_come_along_with_the_receipt_and_nothing_is_uploaded(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert receipt.archive is not None
    assert portal.blobs_along == [receipt.log.digest, receipt.archive.digest]
    assert (portal.uploads, bench.ending(order)) == ({}, "recorded")


def test_large_archive_is_uploaded_and_its_small_log_comes_along(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a " + "x" * RECEIPT_BLOB_BYTES_MAX)
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    receipt = portal.receipts[order.replica_id][1]
    assert receipt.archive is not None
    assert portal.blobs_along == [receipt.log.digest]
    assert [upload["digest"] for upload in portal.uploads.values()] == [receipt.archive.digest]


@pytest.mark.parametrize("code", ["receipt_blob_missing", "receipt_blob_wrong"])
def test_portal_that_has_not_the_bytes_gets_them_by_uploads(bench: Bench, portal: FakePortal, key: PublicKey, code: str) -> None:
    portal.receipt_refusals = [RefusedError(409, code)]
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), len(portal.uploads), portal.blobs_along) == ("recorded", 2, [])


def test_portal_that_never_has_the_bytes_ends_the_lease(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    refusals = portal.receipt_refusals = [RefusedError(409, "receipt_blob_missing") for _ in range(50)]
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "refused: receipt_blob_missing"
    assert 50 - len(refusals) == UPLOADS_AGAIN_MAX + 1


def test_receipt_that_the_portal_could_not_take_in_is_sent_again(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.receipt_refusals = [RefusedError(500, "receipt_not_taken")]
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), portal.uploads) == ("recorded", {})


def test_blob_that_changed_after_it_was_signed_for_is_not_sent(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    folder = bench.home.work_folder / str(order.lease_id)
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_bytes(b"other")
    owed = UploadRow(order.lease_id, digest_of(b"bytes"), 5, folder / "log.jsonl", None, 0)
    bench.journal.lease_finished(order.lease_id, receipt=b"{}", failure=None, uploads=[owed])
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), portal.receipt_posts) == ("given up: blob lost", 0)


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


def test_blob_that_is_gone_ends_the_lease_instead_of_holding_its_slot(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    lost = UploadRow(order.lease_id, "sha256:" + "0" * 64, 3, Path("log.jsonl"), None, 0)
    bench.journal.lease_finished(order.lease_id, receipt=b"{}", failure=None, uploads=[lost])
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), bench.resources.free().slots) == ("given up: blob lost", 2)


def test_lease_that_is_long_overdue_is_not_reported_for_ever(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.journal.lease_finished(order.lease_id, receipt=b"{}", failure=None, uploads=[])
    bench.clock.learn(order.deadline_at + REPORT_GRACE + timedelta(seconds=60))
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "given up: overdue"


def test_owed_blobs_are_found_in_a_home_that_was_moved(bench: Bench, portal: FakePortal, key: PublicKey) -> None:
    portal.outage = True
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    thread = threading.Thread(target=bench.executor.order_run, args=(order.lease_id,))
    thread.start()
    portal.wait_for(lambda: bench.journal.uploads(order.lease_id), "a signed receipt")
    bench.give_up.set()
    thread.join(10)
    bench.journal._execute(
        "UPDATE upload SET path = '/where/it/was/' || CASE WHEN path LIKE '%tar' THEN 'archive.tar' ELSE 'log.jsonl' END"
    )
    bench.give_up.clear()
    portal.outage = False
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) == "recorded"


def test_lease_of_which_nothing_can_be_written_and_nothing_ran_is_given_up(home: NodeHome, portal: FakePortal, key: PublicKey) -> None:
    bench = Bench(home, portal, unwritable_seconds=0.5)
    home.work_folder.write_bytes(b"no folder")
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.executor.order_run(order.lease_id)
    assert (bench.ending(order), bench.runs.reports(), bench.resources.free().slots) == ("given up: home_unwritable", (), 2)


def test_lease_that_ran_waits_for_its_folder(home: NodeHome, portal: FakePortal, key: PublicKey) -> None:
    bench = Bench(home, portal, unwritable_seconds=0)
    home.work_folder.write_bytes(b"no folder")
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    bench.journal.lease_launched(order.lease_id, "{}")
    give_up = threading.Timer(1, bench.give_up.set)
    give_up.start()
    bench.executor.order_run(order.lease_id)
    assert bench.ending(order) is None


def test_fault_of_this_software_while_a_receipt_is_reported_is_tried_again(
    bench: Bench, portal: FakePortal, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = portal.order_make(key, "write a 1")
    bench.accept(order)
    working, faults = bench.journal.uploads, [1, 2]

    def failing(lease_id: UUID) -> list[UploadRow]:
        if faults:
            faults.pop()
            raise ValueError("a fault")
        return working(lease_id)

    monkeypatch.setattr(bench.journal, "uploads", failing)
    bench.executor.order_run(order.lease_id)
    assert (faults, bench.ending(order)) == ([], "recorded")
