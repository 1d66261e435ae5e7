"""The checks of one replica, on real archives, logs and receipts: each way to fail leaves its own evidence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
from jobs.models import Blob, Evidence, Job, Receipt, Replica
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import FILES, archive_make, replica_report
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey

pytestmark = pytest.mark.django_db

OTHER = "sha256:" + "0" * 64


@pytest.fixture
def job() -> Job:
    return job_make(outputs=[{"path": "summary.json"}, {"path": "extra.txt", "required": False}], limits={"output_mb": 1})


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program that checks has a fault."""
    server = ChildServer(memory_bytes=settings.NEXA_CHECK_MEMORY_BYTES, entry="tests.jobs.checking.faulty")
    monkeypatch.setattr(making, "child_server", lambda _: server)
    yield
    server.close()


def evidence_of(replica: Replica) -> dict[str, tuple[bool | None, str]]:
    return {row.check_name: (row.passed, row.code) for row in Evidence.objects.filter(replica=replica, other=None)}


def blob_file(digest: str) -> Path:
    digest_hex = digest.removeprefix("sha256:")
    return Path(settings.NEXA_BLOB_ROOT) / "sha256" / digest_hex[:2] / digest_hex


def test_honest_replica_passes_every_check(job: Job) -> None:
    replica = replica_report(job)
    job_check(job_id=job.pk)
    assert evidence_of(replica) == dict.fromkeys(OWN_CHECKS, (True, ""))
    details = {row.check_name: row.detail for row in replica.evidence.all()}
    assert details["log"]["lines"] == 4
    assert details["log"]["samples"] == 1
    assert details["outputs"] == {"required": 1, "files": 2}
    assert details["archive"]["result_digest"] == replica.receipt.result_digest


def swapped(**names: str) -> Any:
    return lambda subjects: {**subjects, **names}


FAILURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "another key signed": ("signature", "key_wrong", {"sign_key": PrivateKey.generate()}),
    "the envelope is cut short": ("signature", "envelope_malformed", {"envelope_bytes": lambda data: data[:-10]}),
    "the order is another": ("signature", "receipt_contradiction", {"order_digest": OTHER}),
    "the replica is another": ("signature", "receipt_contradiction", {"replica_id": "00000000-0000-0000-0000-000000000001"}),
    "the lease is another": ("signature", "receipt_contradiction", {"lease_id": "00000000-0000-0000-0000-000000000001"}),
    "the node is another": ("signature", "receipt_contradiction", {"node_key_id": OTHER}),
    "the run failed": (
        "signature",
        "receipt_contradiction",
        {"outcome": "failed", "failure": {"code": "exit_nonzero", "message": ""}, "exit_code": 1},
    ),
    "the predicate is no receipt": ("signature", "statement_malformed", {"usage": None}),
    "the archive is no archive": ("archive", "archive_refused", {"archive_bytes": lambda data: b"not a tar"}),
    "the archive is empty": ("archive", "archive_refused", {"archive_bytes": lambda data: b""}),
    "the archive is cut short": ("archive", "archive_refused", {"archive_bytes": lambda data: data[:-1024]}),
    "the archive has bytes after its end": ("archive", "archive_refused", {"archive_bytes": lambda data: data + b"\0" * 512}),
    "a byte of an output was changed": ("archive", "archive_refused", {"archive_bytes": lambda data: data.replace(b"-2.0", b"-3.0", 1)}),
    "the archive is of other files": ("archive", "receipt_contradiction", {"archive_bytes": lambda data: archive_make({"x": b"y"})[0]}),
    "the result digest is another": ("archive", "receipt_contradiction", {"result_digest": OTHER}),
    "the files are more than the job may write": ("archive", "archive_refused", {"files": {**FILES, "big": b"\0" * (2**20 + 1)}}),
    "a required output is missing": ("outputs", "output_missing", {"files": {"energies.csv": b"x\n"}}),
    "a subject has another digest": ("outputs", "receipt_contradiction", {"subjects": swapped(archive=OTHER)}),
    "a subject is none of ours": ("outputs", "receipt_contradiction", {"subjects": swapped(other=OTHER)}),
    "a subject is missing": (
        "outputs",
        "receipt_contradiction",
        {"subjects": lambda subjects: {name: one for name, one in subjects.items() if name != "archive"}},
    ),
    "the log subject is another": ("outputs", "receipt_contradiction", {"subjects": swapped(log=OTHER)}),
    "the manifest subject is another": ("outputs", "receipt_contradiction", {"subjects": swapped(manifest=OTHER)}),
    "the log is no log": ("log", "log_refused", {"log_bytes": lambda data: b"hello\n"}),
    "a line of the log is missing": (
        "log",
        "log_refused",
        {"log_bytes": lambda data: b"".join(data.splitlines(True)[:1] + data.splitlines(True)[2:])},
    ),
    "a line of the log was changed": (
        "log",
        "log_refused",
        {"log_bytes": lambda data: data.replace(b"hello", b"jello").replace(b"aGVsbG8", b"amVsbG8")},
    ),
    "the log stops early": ("log", "log_refused", {"log_bytes": lambda data: b"".join(data.splitlines(True)[:-1])}),
    "the log is empty": ("log", "log_refused", {"log_bytes": lambda data: b""}),
    "the log holds U+0000": ("log", "log_refused", {"log_bytes": lambda data: b'{"a":"\0"}\n'}),
}


@pytest.mark.parametrize(("check", "code", "how"), FAILURES.values(), ids=FAILURES)
def test_failing_check_leaves_its_code_and_the_rest_is_not_checked(job: Job, check: str, code: str, how: dict[str, Any]) -> None:
    replica = replica_report(job, **how)
    job_check(job_id=job.pk)
    place = OWN_CHECKS.index(check)
    assert evidence_of(replica) == {
        **dict.fromkeys(OWN_CHECKS[:place], (True, "")),
        check: (False, code),
        **dict.fromkeys(OWN_CHECKS[place + 1 :], (False, "not_checked")),
    }


def test_log_of_another_order_is_refused(job: Job) -> None:
    other = replica_report(job_make())
    with_log = Receipt.objects.get(replica=other)
    replica = replica_report(job, log=with_log.predicate["log"])
    Receipt.objects.filter(replica=replica).update(log=with_log.log)
    job_check(job_id=job.pk)
    assert evidence_of(replica)["outputs"] == (False, "receipt_contradiction")  # the subject `log` is its own


@pytest.mark.parametrize(("column", "check"), [("archive", "archive"), ("log", "log")])
def test_stored_reference_that_differs_from_the_receipt_is_a_contradiction(job: Job, column: str, check: str) -> None:
    replica = replica_report(job)
    other = Blob.objects.create(digest=digest_of(b"other"), size_bytes=5)
    Receipt.objects.filter(replica=replica).update(**{column: other})
    job_check(job_id=job.pk)
    assert evidence_of(replica)[check] == (False, "receipt_contradiction")


@pytest.mark.parametrize("name", ["archive", "log"])
def test_size_that_differs_from_the_bytes_is_a_contradiction(job: Job, name: str) -> None:
    def longer(predicate: dict[str, Any]) -> dict[str, Any]:
        return {**predicate, name: {**predicate[name], "size_bytes": predicate[name]["size_bytes"] + 1}}

    replica = replica_report(job, predicate_changed=longer)
    job_check(job_id=job.pk)
    assert evidence_of(replica)[name] == (False, "receipt_contradiction")


def test_log_beyond_its_limit_is_refused_unread(job: Job) -> None:
    replica = replica_report(job)
    Blob.objects.filter(pk=replica.receipt.log_id).update(size_bytes=2**40)
    job_check(job_id=job.pk)
    assert evidence_of(replica)["log"] == (False, "log_refused")


def test_checks_are_made_once(job: Job) -> None:
    replica_report(job)
    job_check(job_id=job.pk)
    before = list(Evidence.objects.order_by("pk").values_list("pk", "created_at"))
    job_check(job_id=job.pk)
    assert list(Evidence.objects.order_by("pk").values_list("pk", "created_at")) == before


def test_check_that_the_store_prevents_is_made_again_later(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    replica = replica_report(job, {**FILES, "unique": str(job.pk).encode().ljust(settings.NEXA_BLOB_INLINE_BYTES + 1)})
    archive = blob_file(str(replica.receipt.archive_id))
    away = archive.rename(archive.with_suffix(".away"))
    with caplog.at_level(logging.CRITICAL, "jobs.checking"):
        job_check(job_id=job.pk)
    assert evidence_of(replica) == {"signature": (True, "")}
    away.rename(archive)
    job_check(job_id=job.pk)
    assert evidence_of(replica) == dict.fromkeys(OWN_CHECKS, (True, ""))


def test_check_that_stays_impossible_ends_as_failed(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    replica = replica_report(job, {**FILES, "unique": str(job.pk).encode().ljust(settings.NEXA_BLOB_INLINE_BYTES + 1)})
    blob_file(str(replica.receipt.archive_id)).unlink()
    long_ago = timezone.now() - CHECK_PATIENCE - timedelta(seconds=1)
    Receipt.objects.filter(replica=replica).update(received_at=long_ago)
    with caplog.at_level(logging.CRITICAL, "jobs.checking"):
        job_check(job_id=job.pk)
    assert evidence_of(replica)["archive"] == (False, "check_impossible")


def test_bytes_that_a_parser_fails_at_are_refused_at_once(job: Job, caplog: pytest.LogCaptureFixture, faulty: None) -> None:
    """It would fail again, and whoever knows of such bytes could have the job wait for as long as there is patience."""
    replica = replica_report(job)
    with caplog.at_level(logging.CRITICAL, "jobs.checking"):
        job_check(job_id=job.pk)
    assert evidence_of(replica) == {**dict.fromkeys(OWN_CHECKS, (True, "")), "log": (False, "check_crashed")}
    detail = replica.evidence.get(check_name="log").detail
    assert detail == {"message": "The program that reads it failed: LookupError."}


def test_replica_that_has_not_reported_is_left_alone(job: Job) -> None:
    job_check(job_id=job.pk)
    assert not Evidence.objects.exists()
