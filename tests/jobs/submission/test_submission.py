"""Submission: what is written, what is refused, and that a repetition or a race writes nothing twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from jobs.descriptor import descriptor_parse
from jobs.errors import (
    InputMismatchError,
    InputUnknownError,
    InputUriUnsupportedError,
    JobConcludedError,
    JobDisputedError,
    LabelConflictError,
    RequirementsImpossibleError,
    ResearcherRequiredError,
)
from jobs.models import Job, JobEvent, Replica
from jobs.services.submission import job_cancel, job_submit
from jobs.states import JobState, ReplicaState
from ledger.models import Account, AccountKind
from ledger.movements import CreditsInsufficientError
from ledger.services import account_of
from people.models import User
from tests.factories.jobs import credits_grant, descriptor_make, funded_researcher_make, image_approve, job_make, upload_make
from tests.factories.nodes import node_make, profile_make
from tests.factories.people import researcher_make, user_make
from workers.protocol.messages.machine import Tier

DATA = Path(__file__).parents[1] / "data"


def submit(owner: User, **overrides: Any) -> tuple[Job, bool]:
    return job_submit(owner=owner, descriptor=descriptor_parse(descriptor_make(**overrides)))


def balance_of(user: User) -> int:
    return Account.objects.get(pk=account_of(user=user).pk).balance_micro


@pytest.mark.django_db
def test_submission_writes_job_replicas_reservation_and_event() -> None:
    owner = funded_researcher_make()
    job, created = submit(owner, verification={"copies": 2, "quorum": 2}, limits={"memory_mb": 100}, priority=3)
    assert created
    assert (job.state, job.tier, job.copies, job.quorum, job.replicas_max, job.priority) == (JobState.QUEUED, "cpu", 2, 2, 4, 3)
    replicas = list(Replica.objects.filter(job=job))
    assert [(each.state, each.memory_bytes, each.gpus, each.priority) for each in replicas] == [
        (ReplicaState.QUEUED, 100_000_000, 0, 3)
    ] * 2
    # 3.6e12 FLOPs are a thousandth of a credit; four times that for each of at most four replicas.
    assert job.reserved_micro == 1000 * 4 * 4
    assert balance_of(owner) == 10_000_000 - job.reserved_micro
    assert Account.objects.get(kind=AccountKind.ESCROW).balance_micro == job.reserved_micro
    assert [event.kind for event in JobEvent.objects.filter(job=job)] == ["job.queued"]
    assert job.image["image_id"].startswith("sha256:")


@pytest.mark.django_db
def test_submission_repeated_gives_the_same_job_and_reserves_once() -> None:
    owner = funded_researcher_make()
    document = descriptor_make()
    job, _ = job_submit(owner=owner, descriptor=descriptor_parse(document))
    again = dict(reversed(document.items())) | {"estimated_flops": 3_600_000_000_000}
    same, created = job_submit(owner=owner, descriptor=descriptor_parse(again))
    assert (same.pk, created) == (job.pk, False)
    assert balance_of(owner) == 10_000_000 - job.reserved_micro
    assert Replica.objects.filter(job=job).count() == 1


@pytest.mark.django_db
def test_submission_of_other_content_under_a_label_conflicts() -> None:
    owner = funded_researcher_make()
    job, _ = submit(owner, job_id="once")
    with pytest.raises(LabelConflictError) as caught:
        submit(owner, job_id="once", title="another")
    assert caught.value.code == "label_conflict"
    assert caught.value.extra["job"] == str(job.pk)
    assert submit(funded_researcher_make(), job_id="once")[1], "labels are each researcher's own"


@pytest.mark.usefixtures("own_database")
@pytest.mark.parametrize("titles", [("a", "a"), ("a", "b")], ids=["same content", "other content"])
def test_submissions_that_race_write_one_job(titles: tuple[str, str]) -> None:
    owner = funded_researcher_make()
    barrier = threading.Barrier(len(titles) * 2)
    outcomes: list[tuple[Any, Any]] = []

    def race(title: str) -> None:
        try:
            barrier.wait(timeout=30)
            job, created = submit(owner, job_id="raced", title=title)
            outcomes.append((job.pk, created))
        except LabelConflictError:
            outcomes.append(("conflict", False))
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(title,)) for title in titles * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    job = Job.objects.get(owner=owner)
    assert len(outcomes) == 4
    assert [created for _, created in outcomes].count(True) == 1
    winners = [found for found, _ in outcomes if found != "conflict"]
    assert winners == [job.pk] * (4 if len(set(titles)) == 1 else 2)
    assert balance_of(owner) == 10_000_000 - job.reserved_micro
    assert Replica.objects.filter(job=job).count() == 1


@pytest.mark.django_db
def test_submission_by_somebody_not_approved_is_refused() -> None:
    image_approve()
    with pytest.raises(ResearcherRequiredError, match="approve you") as caught:
        submit(user_make())
    assert (caught.value.code, caught.value.status) == ("researcher_required", 403)
    with pytest.raises(ResearcherRequiredError):
        submit(researcher_make(is_active=False))


@pytest.mark.django_db
def test_submission_without_credits_is_refused_and_writes_nothing() -> None:
    image_approve()
    owner = researcher_make()
    credits_grant(owner, 1)
    with pytest.raises(CreditsInsufficientError) as caught:
        submit(owner)
    assert (caught.value.code, caught.value.status) == ("credits_insufficient", 402)
    assert not Job.objects.exists()
    assert balance_of(owner) == 1


@pytest.mark.django_db
def test_inputs_of_ones_own_finished_upload_are_resolved() -> None:
    owner = funded_researcher_make()
    blob = upload_make(owner, b">1\nGYDPETGTWG\n")
    job, _ = submit(owner, input_files=["a.fasta"], inputs=[{"path": "a.fasta", "digest": blob.digest, "size_bytes": blob.size_bytes}])
    assert [(each.path, each.blob_id) for each in job.inputs.all()] == [("a.fasta", blob.digest)]


@pytest.mark.django_db
def test_input_of_somebody_else_answers_like_one_that_is_not_there() -> None:
    owner = funded_researcher_make()
    theirs = upload_make(user_make(), b"theirs").digest
    answers = []
    for digest in (theirs, "sha256:" + "0" * 64):
        with pytest.raises(InputUnknownError) as caught:
            submit(owner, inputs=[{"path": "a", "digest": digest}])
        answers.append(json.dumps(caught.value.document()).replace(digest, "DIGEST"))
    assert answers[0] == answers[1]
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_input_with_another_size_than_stated_is_refused() -> None:
    owner = funded_researcher_make()
    blob = upload_make(owner, b"four")
    with pytest.raises(InputMismatchError, match="expected 5 bytes; the blob has 4"):
        submit(owner, inputs=[{"path": "a", "digest": blob.digest, "size_bytes": 5}])


@pytest.mark.django_db
def test_inputs_too_large_together_are_refused(settings: Any) -> None:
    settings.NEXA_UPLOAD_BYTES_MAX = 5
    owner = funded_researcher_make()
    inputs = [{"path": name, "digest": upload_make(owner, name.encode() * 3).digest} for name in ("a", "b")]
    with pytest.raises(InputMismatchError, match=r"may have 5 bytes together; these of .* have 6"):
        submit(owner, inputs=inputs)


@pytest.mark.django_db
def test_seed_example_is_refused_for_its_s3_address_alone() -> None:
    owner = funded_researcher_make()
    image_approve("nexapod/folding:latest")
    with pytest.raises(InputUriUnsupportedError) as caught:
        job_submit(owner=owner, descriptor=descriptor_parse((DATA / "seed_example.json").read_bytes()))
    assert caught.value.extra == {"supported": ["https", "upload"], "scheme": "s3"}
    document = json.loads((DATA / "seed_example.json").read_bytes())
    del document["input_uri"]
    document["inputs"] = [{"path": path, "digest": upload_make(owner, path.encode()).digest} for path in document["input_files"]]
    job, _ = job_submit(owner=owner, descriptor=descriptor_parse(document))
    replica = job.replicas.get()
    assert (job.tier, replica.gpus, replica.memory_bytes) == ("gpu-tier1", 1, 8 * 10**9)


@pytest.mark.django_db
def test_requirements_beyond_the_tier_name_the_tier_that_fits_and_the_largest() -> None:
    owner = funded_researcher_make()
    node_make(user_make(), tier=Tier.GPU_TIER3, profile=profile_make(gpu_gb=80))
    with pytest.raises(RequirementsImpossibleError) as caught:
        submit(owner, tier=1, requirements={"vram_gb": 24})
    error = caught.value
    assert (error.code, error.status, error.extra["suggested_tier"]) == ("requirements_impossible", 422, 2)
    assert error.extra["errors"][0]["path"] == "/requirements/vram_gb"
    largest = error.extra["largest_tier"]
    assert (largest["name"], largest["floor"]["gpu_memory_bytes"]) == ("gpu-tier3", 40 * 10**9)
    assert largest["largest_node"]["gpu_memory_bytes"] == 80 * 10**9
    assert "80 GB GPU memory" in error.detail


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("requirements", "field"),
    [
        ({"vram_gb": 5000}, "vram_gb"),
        ({"ram_gb": 1e6}, "ram_gb"),
        ({"cores": 5000}, "cores"),
        ({"disk_gb": 1e8}, "disk_gb"),
        ({"gpu_count": 65}, "gpu_count"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requirements_beyond_any_machine_are_refused(requirements: dict[str, float], field: str) -> None:
    with pytest.raises(RequirementsImpossibleError) as caught:
        submit(funded_researcher_make(), tier=3, requirements=requirements)
    assert [each["path"] for each in caught.value.extra["errors"]] == [f"/requirements/{field}"]
    assert caught.value.extra["suggested_tier"] is None
    assert caught.value.extra["largest_tier"]["largest_node"] is None
    assert "gpu-tier3" in caught.value.detail


@pytest.mark.django_db
def test_cancel_ends_the_job_and_returns_the_reservation() -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    cancelled = job_cancel(job=job)
    assert (cancelled.state, cancelled.failure_code) == (JobState.CANCELLED, "cancelled")
    assert [each.state for each in job.replicas.all()] == [ReplicaState.CANCELLED]
    assert balance_of(owner) == 10_000_000
    assert job_cancel(job=job).state == JobState.CANCELLED
    assert balance_of(owner) == 10_000_000


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        (JobState.COMPLETED, JobConcludedError, "job_concluded"),
        (JobState.FAILED, JobConcludedError, "job_concluded"),
        (JobState.DISPUTED, JobDisputedError, "job_disputed"),
    ],
)
def test_cancel_of_an_ended_or_disputed_job_is_refused(state: JobState, error: type[JobConcludedError], code: str) -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    Job.objects.filter(pk=job.pk).update(state=state)
    with pytest.raises(error) as caught:
        job_cancel(job=job)
    assert (caught.value.code, caught.value.status) == (code, 409)
