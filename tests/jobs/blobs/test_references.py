"""The list of references is whole, and each wants its bytes for as long as the settings say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import models
from django.utils import timezone

from jobs.blobs.references import REFERENCES, bytes_kept_for, result_kept_until
from jobs.models import Blob, Job, JobInput, Receipt, Upload
from jobs.states import ReplicaState
from tests.factories.jobs import funded_researcher_make, job_make, upload_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_report
from tests.jobs.blobs.scene import SMALL, collect, concluded

NAME_NO_BLOB = {
    "jobs.Blob.digest",
    "jobs.Job.descriptor_digest",
    "jobs.Replica.order_digest",
    "jobs.Receipt.digest",
    "jobs.Receipt.result_digest",
    "jobs.ImageApproval.image_id",
    "nodes.Node.key_id",
    "nodes.NodeKey.key_id",
    "ledger.CoordinatorSuccession.key_id",
    "ledger.CoordinatorSuccession.successor_key_id",
}
"""Columns of the length of a digest that hold digests of other things."""


def test_every_column_that_names_a_blob_is_listed() -> None:
    """A new one is either a reference, for jobs/blobs/references.py, or is about something else, for NAME_NO_BLOB."""
    fields = [field for model in apps.get_models() for field in model._meta.get_fields() if isinstance(field, models.Field)]
    foreign = {str(field) for field in fields if isinstance(field, models.ForeignKey) and field.related_model is Blob}
    digests = {str(field) for field in fields if isinstance(field, models.CharField) and field.max_length == 71} - NAME_NO_BLOB
    listed = {str(each.model._meta.get_field(each.column)): each.holds_row for each in REFERENCES}
    assert {name for name, holds_row in listed.items() if holds_row} == foreign
    assert {name for name, holds_row in listed.items() if not holds_row} == digests
    assert {str(field) for field in fields} >= NAME_NO_BLOB, "a column that is no more needs no line"


@pytest.fixture
def ended() -> Job:
    """A job with an input, an accepted replica and a rejected one, that was concluded."""
    owner = funded_researcher_make()
    blob = upload_make(owner, b"the input")
    job = job_make(
        owner,
        inputs=[{"path": "a.txt", "digest": blob.digest}],
        verification={"method": "exact", "copies": 2, "quorum": 2},
    )
    Upload.objects.all().delete()
    accepted, rejected = replica_report(job), replica_report(job, files={"other.txt": b"another result"})
    for replica, state in ((accepted, ReplicaState.ACCEPTED), (rejected, ReplicaState.REJECTED)):
        type(replica).objects.filter(pk=replica.pk).update(state=state)
    Job.objects.filter(pk=job.pk).update(state="completed", canonical_replica=accepted, concluded_at=timezone.now())
    return Job.objects.get(pk=job.pk)


def kept(job: Job) -> dict[str, bool]:
    """Whether the bytes are there, after a full collection now."""
    now = timezone.now()
    collect(now=now)
    collect(now=now + timedelta(hours=25))
    accepted, rejected = (Receipt.objects.get(replica__job=job, replica__state=state) for state in ("accepted", "rejected"))
    blobs = {
        "input": JobInput.objects.get(job=job).blob,
        "result": accepted.archive,
        "log": accepted.log,
        "rejected": rejected.archive,
    }
    return {name: blob is not None and blob.removed_at is None for name, blob in blobs.items()}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("days_ago", "is_kept", "expected"),
    [
        (20, False, {"input": True, "result": True, "log": True, "rejected": True}),
        (40, False, {"input": True, "result": True, "log": True, "rejected": False}),
        (200, False, {"input": False, "result": False, "log": False, "rejected": False}),
        (2000, True, {"input": True, "result": True, "log": True, "rejected": False}),
    ],
)
def test_bytes_of_an_ended_job_are_kept_as_long_as_the_settings_say(
    ended: Job, days_ago: float, is_kept: bool, expected: dict[str, bool]
) -> None:
    Job.objects.filter(pk=ended.pk).update(is_kept=is_kept)
    concluded(ended, days_ago=days_ago)
    assert kept(ended) == expected


@pytest.mark.django_db
def test_zero_days_are_for_ever(ended: Job, settings: Any) -> None:
    settings.NEXA_RESULT_DAYS = settings.NEXA_REJECTED_DAYS = 0
    concluded(ended, days_ago=5000)
    assert all(kept(ended).values())
    assert result_kept_until(ended) is None


@pytest.mark.django_db
def test_an_open_job_keeps_everything(ended: Job) -> None:
    concluded(ended, days_ago=5000)
    Job.objects.filter(pk=ended.pk).update(concluded_at=None)
    assert all(kept(ended).values())


@pytest.mark.django_db
def test_of_removed_bytes_the_receipts_and_digests_stay(ended: Job) -> None:
    concluded(ended, days_ago=200)
    before = list(Receipt.objects.order_by("pk").values_list("digest", "archive_id", "log_id", "result_digest"))
    kept(ended)
    assert list(Receipt.objects.order_by("pk").values_list("digest", "archive_id", "log_id", "result_digest")) == before
    assert all(bytes(receipt.envelope) for receipt in Receipt.objects.all())
    assert Blob.objects.filter(removed_at=None).count() == 0


@pytest.mark.django_db
def test_a_blob_that_another_job_wants_stays(ended: Job) -> None:
    concluded(ended, days_ago=200)
    other = job_make(funded_researcher_make())
    JobInput.objects.create(job=other, path="same", blob=JobInput.objects.get(job=ended).blob)
    assert kept(ended)["input"]


@pytest.mark.django_db
def test_until_when_is_said_of_a_concluded_job(ended: Job, settings: Any) -> None:
    settings.NEXA_RESULT_DAYS = 10
    assert ended.concluded_at is not None
    assert result_kept_until(ended) == ended.concluded_at + timedelta(days=10)
    ended.is_kept = True
    assert result_kept_until(ended) is None


@pytest.mark.django_db
def test_a_persons_bytes_are_counted_once_each(ended: Job) -> None:
    owner = ended.owner
    blobs = {blob for receipt in Receipt.objects.select_related("archive", "log") for blob in (receipt.archive, receipt.log) if blob}
    expected = sum(blob.size_bytes for blob in blobs) + len(b"the input")
    assert bytes_kept_for(owner) == expected
    job_make(owner, inputs=[{"path": "b.txt", "digest": upload_make(owner, b"the input").digest}])
    assert bytes_kept_for(owner) == expected
    Upload.objects.create(user=owner, digest="sha256:" + "1" * 64, size_bytes=1000)
    assert bytes_kept_for(owner) == expected + 1000
    upload_make(user_make(), SMALL)
    assert bytes_kept_for(owner) == expected + 1000
    concluded(ended, days_ago=200)
    Upload.objects.all().delete()
    kept(ended)
    assert bytes_kept_for(owner) == len(b"the input"), "the other job still wants it"
