"""What is kept for a person is limited, shown, and let go of when its time is over."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.blobs.references import bytes_kept_for
from jobs.descriptor import descriptor_parse
from jobs.models import Blob, Job, Receipt, Upload
from jobs.services.uploads import UPLOAD_ABANDONED, upload_create, upload_take, uploads_finished_forget, uploads_sweep
from jobs.storage import StorageFullError
from jobs.submission.check import submission_faults
from tests.factories.jobs import descriptor_make, funded_researcher_make, job_make, upload_make
from tests.factories.people import token_header
from tests.factories.receipts import replica_report
from tests.jobs.blobs.scene import concluded
from workers.protocol.digests import digest_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    cache.clear()


def completed() -> Job:
    """A job with an accepted result."""
    job = job_make()
    replica = replica_report(job)
    type(replica).objects.filter(pk=replica.pk).update(state="accepted")
    Job.objects.filter(pk=job.pk).update(state="completed", canonical_replica=replica, concluded_at=timezone.now())
    return Job.objects.get(pk=job.pk)


def page(job: Job, name: str = "job-page") -> str:
    client = Client()
    client.force_login(job.owner)
    return client.get(reverse(name, args=[job.pk])).content.decode()


def words(text: str) -> str:
    return re.sub("<[^>]*>", "", text)


def act(job: Job, name: str) -> None:
    client = Client()
    client.force_login(job.owner)
    answer = client.post(reverse("jobs-act"), {"act": name, "job": str(job.pk), "from": "job"})
    assert answer.status_code == 302


def bytes_remove() -> None:
    """As a collection leaves them, of all receipts."""
    now = timezone.now()
    Blob.objects.update(data=None, unwanted_since=now, removed_at=now)


def test_what_is_announced_counts_as_announced_whether_the_portal_has_the_bytes_or_not() -> None:
    """Else who announces a digest would see whether somebody has delivered it: a host could try what another may have found."""
    others = completed()
    digest = Receipt.objects.get(replica__job=others).archive_id
    assert digest is not None
    user = funded_researcher_make()
    upload_create(uploader=user, digest=digest, size_bytes=1, lease_id=None)
    assert bytes_kept_for(user) == 1


def test_a_file_sent_whole_counts_with_all_its_bytes_whatever_was_announced_of_it_before(settings: Any) -> None:
    settings.NEXA_STORED_BYTES_MAX = 1000
    user, data = funded_researcher_make(), b"x" * 600
    announced = upload_create(uploader=user, digest=digest_of(data), size_bytes=1, lease_id=None)
    upload_create(uploader=user, digest=digest_of(b"2"), size_bytes=500, lease_id=None)
    with pytest.raises(StorageFullError):
        upload_take(user=user, stream=io.BytesIO(data), limit_bytes=1000)
    announced.refresh_from_db()
    assert (announced.size_bytes, announced.committed_at) == (1, None)
    # What was announced as it is has its room already.
    settings.NEXA_STORED_BYTES_MAX = 1100
    assert upload_take(user=user, stream=io.BytesIO(data), limit_bytes=1000).size_bytes == 600


def test_what_goes_beyond_the_limit_is_refused_and_what_is_there_stays(settings: Any) -> None:
    settings.NEXA_STORED_BYTES_MAX = 1000
    user = funded_researcher_make()
    upload_create(uploader=user, digest=digest_of(b"1"), size_bytes=600, lease_id=None)
    with pytest.raises(StorageFullError, match="bytes of at most") as raised:
        upload_create(uploader=user, digest=digest_of(b"2"), size_bytes=401, lease_id=None)
    assert (raised.value.status, raised.value.code) == (413, "storage_full")
    assert raised.value.extra == {"kept_bytes": 600, "limit_bytes": 1000}
    upload_create(uploader=user, digest=digest_of(b"2"), size_bytes=400, lease_id=None)
    assert upload_create(uploader=user, digest=digest_of(b"1"), size_bytes=600, lease_id=None).offset_bytes == 0
    with pytest.raises(StorageFullError):
        upload_take(user=user, stream=io.BytesIO(b"x"), limit_bytes=10)
    settings.NEXA_STORED_BYTES_MAX = 0
    assert upload_take(user=user, stream=io.BytesIO(b"x"), limit_bytes=10).committed_at is not None


def test_a_submission_is_refused_when_the_limit_is_reached_and_the_check_says_so(settings: Any) -> None:
    user = funded_researcher_make()
    upload_make(user, b"0123456789")
    settings.NEXA_STORED_BYTES_MAX = 10
    descriptor = descriptor_make()
    answer = Client().post("/api/v1/jobs", descriptor, content_type="application/json", headers=token_header(user))
    assert (answer.status_code, answer.json()["code"]) == (413, "storage_full")
    assert [fault.code for fault in submission_faults(owner=user, descriptor=descriptor_parse(descriptor))] == ["storage_full"]
    assert not Job.objects.exists()


def test_the_submission_page_says_how_much_is_stored() -> None:
    user = funded_researcher_make()
    upload_make(user, b"0" * 2048)
    client = Client()
    client.force_login(user)
    assert "uploads, inputs and results: 2.0\xa0KB of 100.0\xa0GB." in client.get(reverse("new-job") + "?from=blank").content.decode()


def test_a_jobs_page_says_until_when_and_its_owner_keeps_and_lets_go() -> None:
    job = completed()
    until = f"kept until {timezone.now() + timedelta(days=180):%Y-%m-%d}"
    assert until in words(page(job))
    act(job, "keep")
    assert "kept as long as you wish" in page(job)
    assert Job.objects.get(pk=job.pk).is_kept
    act(job, "let_go")
    assert until in words(page(job))


def test_a_result_counts_from_the_conclusion_on_as_before_it_would_tell_that_a_replica_has_delivered() -> None:
    job = job_make()
    replica_report(job)
    assert bytes_kept_for(job.owner) == 0
    Job.objects.filter(pk=job.pk).update(state="completed", concluded_at=timezone.now())
    receipt = Receipt.objects.select_related("archive", "log").get()
    assert receipt.archive is not None
    assert receipt.log is not None
    assert bytes_kept_for(job.owner) == receipt.archive.size_bytes + receipt.log.size_bytes


def test_anothers_job_is_not_kept() -> None:
    job, stranger = completed(), Client()
    stranger.force_login(funded_researcher_make())
    stranger.post(reverse("jobs-act"), {"act": "keep", "job": str(job.pk), "from": "job"})
    assert not Job.objects.get(pk=job.pk).is_kept


def test_of_a_result_that_is_gone_the_digests_are_shown() -> None:
    job = completed()
    bytes_remove()
    receipt = Receipt.objects.select_related("archive").get()
    assert "no longer kept; digests, receipts and payments remain" in page(job)
    shown = page(job, "job-results")
    assert "no longer kept" in shown
    assert receipt.archive is not None
    assert receipt.result_digest in shown
    assert receipt.archive.digest in shown
    client = Client()
    client.force_login(job.owner)
    for name in ("job-results-archive", "job-runs"):
        assert client.get(reverse(name, args=[job.pk])).status_code == 404
    answer = Client().get(f"/api/v1/blobs/{receipt.archive.digest}", headers=token_header(job.owner))
    assert (answer.status_code, answer.json()["code"]) == (410, "blob_gone")
    assert client.get(reverse("job-bundle", args=[job.pk])).status_code == 410


def test_finished_uploads_are_forgotten_in_their_time_and_an_announcement_begins_it_anew() -> None:
    user, now = funded_researcher_make(), timezone.now()
    upload_make(user, b"old")
    again = upload_make(user, b"old and wanted again")
    Upload.objects.update(committed_at=now - timedelta(days=31))
    upload_create(uploader=user, digest=again.digest, size_bytes=again.size_bytes, lease_id=None)
    assert (uploads_finished_forget(now=now), uploads_finished_forget(now=now)) == (1, 0)
    assert Upload.objects.get().digest == again.digest


def test_uploads_of_a_lease_are_forgotten_once_its_job_is_concluded() -> None:
    job = completed()
    upload = {"digest": digest_of(b"x"), "size_bytes": 1, "offset_bytes": 1, "committed_at": timezone.now() - timedelta(days=3)}
    Upload.objects.create(replica=job.canonical_replica, **upload)
    assert uploads_finished_forget(now=timezone.now()) == 0
    concluded(job, days_ago=3)
    assert uploads_finished_forget(now=timezone.now()) == 1


def test_staged_bytes_of_an_upload_that_is_no_more_are_removed(settings: Any) -> None:
    user = funded_researcher_make()
    upload = upload_create(uploader=user, digest=digest_of(b"abc"), size_bytes=3, lease_id=None)
    staged = settings.NEXA_BLOB_ROOT / "staging" / str(upload.pk)
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(b"ab")
    uploads_sweep(now=timezone.now())
    assert staged.exists()
    Upload.objects.all().delete()
    uploads_sweep(now=timezone.now() + UPLOAD_ABANDONED + timedelta(seconds=1))
    assert not staged.exists()
