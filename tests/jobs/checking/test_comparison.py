"""Comparison of two replicas' results by the job's rules, from the bytes in the store."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from jobs.checking import making
from jobs.checking.children import ChildServer
from jobs.checking.documents import OWN_CHECKS
from jobs.checking.making import CHECK_PATIENCE
from jobs.models import Evidence, Receipt
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import FILES, replica_report

pytestmark = pytest.mark.django_db

NUMERIC = {"method": "numeric", "copies": 2, "quorum": 2}
EXACT = {"method": "exact", "copies": 2, "quorum": 2}
CSV = b"step,energy\n0,-1.0\n1,-2.0\n"


def compared(one: dict[str, bytes], other: dict[str, bytes], **descriptor: Any) -> Evidence:
    job = job_make(**descriptor)
    replica_report(job, one)
    replica_report(job, other)
    job_check(job_id=job.pk)
    return Evidence.objects.get(replica__job=job, check_name="comparison")


def test_equal_files_agree_without_being_read_as_numbers() -> None:
    found = compared(dict(FILES), dict(FILES), verification=EXACT)
    assert (found.passed, found.code) == (True, "")
    assert (found.detail["agree"], found.detail["worst"], found.detail["files_identical"]) == (True, None, len(FILES))
    assert found.detail["sentence"] == f"{len(FILES)} files have the same bytes."


def test_exact_refuses_one_different_byte_and_names_the_file() -> None:
    found = compared({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3"}, verification=EXACT)
    assert (found.passed, found.code) == (False, "results_differ")
    assert (found.detail["worst"]["file"], found.detail["worst"]["place"]) == ("b", "bytes")


def test_numbers_within_the_jobs_tolerance_agree() -> None:
    found = compared({"e.csv": CSV}, {"e.csv": CSV.replace(b"-2.0", b"-2.01")}, verification=NUMERIC, tolerance=0.01)
    assert found.passed is True
    assert found.detail["worst"]["place"] == "row 2, energy"
    assert found.detail["worst"]["difference"] == pytest.approx(0.01)


def test_numbers_beyond_it_differ() -> None:
    found = compared({"e.csv": CSV}, {"e.csv": CSV.replace(b"-2.0", b"-2.1")}, verification=NUMERIC, tolerance=0.01)
    assert (found.passed, found.code) == (False, "results_differ")


def test_files_that_are_no_tables_are_compared_exactly_beside_numbers() -> None:
    same = {"e.csv": CSV, "final.pdb": b"ATOM"}
    assert compared(same, {**same, "e.csv": CSV + b"\n"}, verification=NUMERIC).passed is True
    assert compared(same, {**same, "final.pdb": b"ATON"}, verification=NUMERIC, tolerance=1.0).passed is False


@pytest.mark.parametrize("method", [NUMERIC, EXACT])
def test_file_that_only_one_result_has_differs(method: dict[str, Any]) -> None:
    for path in ("more.csv", "more.pdb"):
        found = compared(dict(FILES), {**FILES, path: b"x\n1\n"}, verification=method)
        assert found.passed is False
        assert found.detail["worst"] | {"difference": 0} == {
            "file": path, "place": "file", "one": "missing", "other": "present", "difference": 0, "allowed": 0.0
        }  # fmt: skip


def test_only_named_files_count_with_tolerances_of_their_own() -> None:
    rules = {"files": [{"path": "e.csv", "absolute": 0.0, "columns": {"energy": {"absolute": 0.5}}}]}
    outputs = [{"path": "e.csv"}]
    one, other = {"e.csv": CSV, "note.txt": b"1"}, {"e.csv": CSV.replace(b"-2.0", b"-2.4"), "note.txt": b"2"}
    assert compared(one, other, verification={**NUMERIC, **rules}, outputs=outputs).passed is True
    moved = {"e.csv": CSV.replace(b"1,-2.0", b"2,-2.0")}
    assert compared(one, moved, verification={**NUMERIC, **rules}, outputs=outputs).passed is False


def test_file_that_cannot_be_read_is_evidence_and_agrees_with_nothing() -> None:
    found = compared({"e.csv": CSV}, {"e.csv": b"\xff"}, verification=NUMERIC)
    assert (found.passed, found.code) == (False, "output_unreadable")


def test_cells_with_characters_that_postgresql_cannot_store_are_evidence_all_the_same() -> None:
    found = compared({"e.csv": b"x\n\0\n"}, {"e.csv": b"x\n1\n"}, verification=NUMERIC)
    assert (found.passed, found.code) == (False, "results_differ")
    assert "\N{REPLACEMENT CHARACTER}" in (found.detail["worst"]["one"], found.detail["worst"]["other"])


def test_every_pair_of_valid_replicas_is_compared_once() -> None:
    job = job_make(verification={"method": "exact", "copies": 4, "quorum": 3})
    replicas = [replica_report(job) for _ in range(3)]
    replica_report(job, archive_bytes=lambda data: b"no archive")
    for _ in range(2):
        job_check(job_id=job.pk)
    rows = Evidence.objects.filter(check_name="comparison")
    pairs = {frozenset((row.replica_id, row.other_id)) for row in rows}
    valid = [replica.pk for replica in replicas]
    assert len(rows) == len(pairs) == 3
    assert pairs == {frozenset((one, other)) for one in valid for other in valid if one != other}


def test_a_pair_that_a_comparator_fails_at_does_not_agree(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ChildServer(memory_bytes=settings.NEXA_CHECK_MEMORY_BYTES, entry="tests.jobs.checking.faulty_comparing")
    monkeypatch.setattr(making, "child_server", lambda _: server)
    with caplog.at_level(logging.CRITICAL, "jobs.checking"), closing(server):
        found = compared(dict(FILES), dict(FILES), verification=EXACT)
    assert (found.passed, found.code) == (False, "check_crashed")
    assert found.detail == {"message": "The program that reads it failed: LookupError.", "worst": None}


@pytest.mark.parametrize("late", [False, True])
def test_comparison_that_the_store_prevents_is_made_again_until_patience_ends(caplog: pytest.LogCaptureFixture, late: bool) -> None:
    job = job_make(verification=EXACT)
    replicas = [replica_report(job, {"only": f"{job.pk} {late}".encode().ljust(settings.NEXA_BLOB_INLINE_BYTES + 1)}) for _ in range(2)]
    for replica in replicas:  # their own checks are made
        Evidence.objects.bulk_create(Evidence(replica=replica, check_name=name, passed=True) for name in OWN_CHECKS)
    digest_hex = str(replicas[0].receipt.archive_id).removeprefix("sha256:")
    (Path(settings.NEXA_BLOB_ROOT) / "sha256" / digest_hex[:2] / digest_hex).unlink()
    if late:
        Receipt.objects.update(received_at=timezone.now() - CHECK_PATIENCE - timedelta(seconds=1))
    with caplog.at_level(logging.CRITICAL, "jobs.checking"):
        job_check(job_id=job.pk)
    found = list(Evidence.objects.filter(check_name="comparison").values_list("passed", "code"))
    assert found == ([(False, "check_impossible")] if late else [])
