"""Findings as rows: what a stranger's text may hold, and what the database refuses."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import pytest

from jobs.checking.documents import Finding
from jobs.checking.evidence import EvidenceWriter
from jobs.models import Evidence
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

pytestmark = pytest.mark.django_db


def nested(depth: int) -> Any:
    inner: Any = "\0"
    for _ in range(depth):
        inner = [inner]
    return inner


def test_first_finding_stands() -> None:
    replica = replica_report(job_make())
    for code in ("log_refused", "archive_refused"):
        with EvidenceWriter() as evidence:
            evidence.add([Finding(str(replica.pk), "log", passed=False, code=code)])
    assert Evidence.objects.get().code == "log_refused"


def test_what_was_found_is_written_also_when_the_work_is_broken_off() -> None:
    replica = replica_report(job_make())

    def broken_off() -> None:
        with EvidenceWriter() as evidence:
            evidence.add([Finding(str(replica.pk), "log", passed=True)])
            raise SystemExit

    with pytest.raises(SystemExit):
        broken_off()
    assert Evidence.objects.get().passed is True


def test_texts_that_postgresql_cannot_store_are_replaced() -> None:
    replica = replica_report(job_make())
    detail = {"a\0b": ["\ud800", {"x": "\0"}, 1.5, None], "ok": "\\u0000"}
    with EvidenceWriter() as evidence:
        evidence.add([Finding(str(replica.pk), "log", passed=False, code="log_refused", detail=detail)])
    mark = "\N{REPLACEMENT CHARACTER}"
    assert Evidence.objects.get().detail == {f"a{mark}b": [mark, {"x": mark}, 1.5, None], "ok": "\\u0000"}


def test_row_that_is_refused_keeps_no_other_from_being_written(caplog: pytest.LogCaptureFixture) -> None:
    replica = replica_report(job_make())
    with caplog.at_level(logging.CRITICAL, "jobs.checking"), EvidenceWriter() as evidence:
        evidence.add([Finding(str(replica.pk), "x" * 33, passed=True), Finding(str(replica.pk), "log", passed=True)])
    assert list(Evidence.objects.values_list("check_name", flat=True)) == ["log"]


@pytest.mark.parametrize("inside", [float("inf"), nested(5000)], ids=["infinite", "deep"])
def test_row_that_is_no_json_keeps_no_other_from_being_written(caplog: pytest.LogCaptureFixture, inside: object) -> None:
    replica = replica_report(job_make())
    with caplog.at_level(logging.CRITICAL, "jobs.checking"), EvidenceWriter() as evidence:
        evidence.add([Finding(str(replica.pk), "archive", passed=True, detail={"x": inside}), Finding(str(replica.pk), "log", passed=True)])
    assert list(Evidence.objects.values_list("check_name", flat=True)) == ["log"]


def test_nothing_found_takes_no_statement(django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0), EvidenceWriter():  # type: ignore[operator]  # a fixture without a type
        pass
    assert uuid.uuid4() not in set(Evidence.objects.values_list("replica_id", flat=True))
