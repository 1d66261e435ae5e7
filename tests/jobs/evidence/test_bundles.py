"""Bundles from rows in PostgreSQL and blobs in the store, as the offline verifier sees them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from client.verification import Report, bundle_verify
from jobs.evidence.bundles import ResultUnavailableError, bundle_response
from jobs.models import Job, Receipt
from jobs.services.closing import job_fail
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.states import JobState
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_public_key
from ledger.epochs import epoch_begin
from ledger.services import grant_post
from nodes.models import Node
from people.models import Scope, User
from tests.factories.bundles import bundle_bytes
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.ledger import account_make
from tests.factories.people import moderator_make, token_header, user_make
from tests.factories.receipts import FILES, replica_report
from tests.jobs.gateway.simulated_host import body_of
from workers.protocol.archives import ArchiveLimits, ArchiveRefusedError
from workers.protocol.bundles import SEAL_NAME, index_parse
from workers.protocol.digests import digest_of
from workers.protocol.errors import DigestMismatchError

pytestmark = pytest.mark.django_db


def completed_job(owner: User | None = None, *, copies: int = 2, files: Mapping[str, bytes] = FILES, **overrides: Any) -> Job:
    """A job that `copies` hosts ran and that was verified and paid."""
    job = job_make(owner, verification={"copies": copies, "quorum": copies}, **overrides)
    for _ in range(copies):
        replica_report(job, files)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED
    return job


def verified(folder: Path, data: bytes) -> Report:
    path = folder / "bundle.zip"
    path.write_bytes(data)
    return bundle_verify(path, coordinator_key_id=coordinator_public_key().key_id)


def test_bundle_of_a_completed_job_is_accepted_offline(tmp_path: Path) -> None:
    job = completed_job()
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    report = verified(tmp_path, bundle_bytes(job))
    receipts = {receipt.replica_id: receipt for receipt in Receipt.objects.filter(replica__job=job)}
    assert (report.job_id, report.label, report.quorum, report.checkpoint_size) == (str(job.pk), job.label, 2, checkpoint.size)
    assert job.canonical_replica is not None
    assert report.result_digest == receipts[job.canonical_replica.pk].result_digest
    assert report.files == len(FILES)
    assert {replica.node_key_id for replica in report.replicas} == {replica.node.key_id for replica in job.replicas.all() if replica.node}
    assert [replica.canonical for replica in report.replicas] == [True, False]
    paid = set(job.replicas.values_list("paid_micro", flat=True))
    assert {replica.paid_micro for replica in report.replicas} == paid
    assert min(paid) > 0


def test_result_of_as_many_files_as_an_archive_may_hold_is_verified_and_accepted_offline(tmp_path: Path) -> None:
    files = {f"{number:0190}": b"" for number in range(ArchiveLimits().files)}
    job = completed_job(copies=1, files=files)
    assert len(bytes(Receipt.objects.get().envelope)) < 4096, "a receipt does not grow with the number of files"
    assert verified(tmp_path, bundle_bytes(job)).files == len(files)


def test_payment_outside_of_any_checkpoint_is_said_to_be_open(tmp_path: Path) -> None:
    job = completed_job()
    report = verified(tmp_path, bundle_bytes(job))
    assert report.checkpoint_size is None
    assert [replica.paid_micro for replica in report.replicas] == [None, None]


def test_checkpoint_from_before_the_payment_proves_none_of_it(tmp_path: Path) -> None:
    grant_post(to=account_make(), amount_micro=1, reason="test", idempotency_key="before")
    checkpoint_publish()
    job = completed_job()
    report = verified(tmp_path, bundle_bytes(job))
    assert report.checkpoint_size is not None
    assert [replica.paid_micro for replica in report.replicas] == [None, None]


def test_proofs_hold_in_a_log_that_grew_since(tmp_path: Path) -> None:
    job = completed_job()
    checkpoint_publish()
    account = account_make()
    for number in range(300):  # over the edge of a tile of 256
        grant_post(to=account, amount_micro=1, reason="test", idempotency_key=f"more:{number}")
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    report = verified(tmp_path, bundle_bytes(job))
    assert report.checkpoint_size == checkpoint.size > 300
    assert all(replica.paid_micro for replica in report.replicas)


def test_bundle_made_between_an_epochs_beginning_and_its_first_checkpoint_is_under_the_last_one_before(tmp_path: Path) -> None:
    job = completed_job()
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    epoch_begin(reason="a restore")
    report = verified(tmp_path, bundle_bytes(job))
    assert report.checkpoint_size == checkpoint.size
    assert all(replica.paid_micro for replica in report.replicas)
    checkpoint_publish()
    assert verified(tmp_path, bundle_bytes(job)).checkpoint_size == checkpoint.size


def test_bundle_is_the_same_bytes_again() -> None:
    job = completed_job()
    checkpoint_publish()
    assert bundle_bytes(job) == bundle_bytes(job)


def test_bundle_names_every_member_in_its_seal_and_holds_the_canonical_archive_only() -> None:
    job = completed_job()
    with zipfile.ZipFile(io.BytesIO(bundle_bytes(job))) as bundle:
        names = bundle.namelist()
        index = index_parse(bundle.read("bundle.json"))
        archive = bundle.read("replica-1/archive.tar")
    assert names[-1] == SEAL_NAME
    assert [name for name in names if name.endswith("archive.tar")] == ["replica-1/archive.tar"]
    assert job.canonical_replica is not None
    assert digest_of(archive) == job.canonical_replica.receipt.archive_id
    assert index.job.descriptor == job.descriptor
    assert index.origin == settings.NEXA_ORIGIN


def test_rejected_replica_is_left_out(tmp_path: Path) -> None:
    job = job_make(verification={"copies": 3, "quorum": 2})
    replica_report(job)
    odd = replica_report(job, {"summary.json": b'{"energy":99}'})
    replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    report = verified(tmp_path, bundle_bytes(job))
    assert odd.node is not None
    assert odd.node.key_id not in {replica.node_key_id for replica in report.replicas}
    assert len(report.replicas) == 2


def test_blob_that_rotted_in_the_store_is_refused_against_the_receipt(tmp_path: Path, settings: Any) -> None:
    """The coordinator seals what it sends; that the bytes are the node's is shown by the node's receipt, not by the seal."""
    settings.NEXA_BLOB_INLINE_BYTES = 0
    job = completed_job()
    assert job.canonical_replica is not None
    [stored] = [
        path for path in Path(settings.NEXA_BLOB_ROOT).rglob("*") if path.name.endswith(str(job.canonical_replica.receipt.archive_id)[-20:])
    ]
    whole = stored.read_bytes()
    stored.chmod(0o600)
    try:
        stored.write_bytes(whole[:600] + b"?" + whole[601:])
        with pytest.raises(ArchiveRefusedError):
            verified(tmp_path, bundle_bytes(job))
    finally:
        stored.write_bytes(whole)


def test_one_byte_changed_on_the_way_is_refused(tmp_path: Path) -> None:
    data = bundle_bytes(completed_job())
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as bundle, zipfile.ZipFile(out, "w") as copy:
        for name in bundle.namelist():
            content = bundle.read(name)
            copy.writestr(name, content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("log.jsonl") else content)
    with pytest.raises(DigestMismatchError):
        verified(tmp_path, out.getvalue())


def test_bundle_takes_a_fixed_number_of_statements_a_replica(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    job = completed_job(copies=3)
    checkpoint_publish()
    job = Job.objects.get(pk=job.pk)
    with django_assert_max_num_queries(4 + 3 * 13):
        bundle_bytes(job)


# --- who gets none -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in JobState if state != JobState.COMPLETED])
def test_job_that_is_not_completed_has_no_result(state: JobState) -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(state=state)
    job.refresh_from_db()
    with pytest.raises(ResultUnavailableError) as caught:
        bundle_response(job=job)
    assert (caught.value.status, caught.value.code) == (409, "result_unavailable")
    assert str(state) in caught.value.detail


def test_refusal_says_why_a_failed_job_failed() -> None:
    job = job_make()
    job_fail(job=job, code="exit_nonzero", message="The container ended with exit code 3.")
    with pytest.raises(ResultUnavailableError, match="exit code 3"):
        bundle_bytes(job)


def test_owner_downloads_a_bundle_that_verifies(client: Client, tmp_path: Path) -> None:
    owner = funded_researcher_make()
    job = completed_job(owner)
    checkpoint_publish()
    answer = client.get(f"/api/v1/jobs/{job.pk}/bundle", headers=token_header(owner, [Scope.JOBS_READ]))
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    assert answer["Content-Disposition"] == f'attachment; filename="{job.label}.nexa.zip"'
    data = body_of(answer)
    assert answer["Content-Length"] == str(len(data))
    assert verified(tmp_path, data).job_id == str(job.pk)
    answer.close()


def test_nobody_but_the_owner_gets_it(client: Client) -> None:
    owner = funded_researcher_make()
    job = completed_job(owner)
    contributor = Node.objects.filter(replicas__job=job)[0].owner
    for other in (user_make(), contributor, moderator_make()):
        answer = client.get(f"/api/v1/jobs/{job.pk}/bundle", headers=token_header(other))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get(f"/api/v1/jobs/{job.pk}/bundle").status_code == 401
    denied = client.get(f"/api/v1/jobs/{job.pk}/bundle", headers=token_header(owner, [Scope.JOBS_WRITE]))
    assert (denied.status_code, denied.json()["code"]) == (403, "scope_missing")


def test_cancelled_job_answers_409_over_http(client: Client) -> None:
    owner = funded_researcher_make()
    job = job_cancel(job=job_make(owner))
    answer = client.get(f"/api/v1/jobs/{job.pk}/bundle", headers=token_header(owner))
    assert (answer.status_code, answer.json()["code"]) == (409, "result_unavailable")


def test_node_of_the_job_may_be_renamed_afterwards(tmp_path: Path) -> None:
    """Names are for people: the key is what is proved."""
    job = completed_job()
    Node.objects.filter(replicas__job=job).update(name="renamed [red]")
    assert {replica.node_name for replica in verified(tmp_path, bundle_bytes(job)).replicas} == {"renamed [red]"}
