"""The dispatcher and the two halves of the chord, called as functions; a real worker runs them in test_worker.py."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import tasks
from jobs.checking import children, claims, making
from jobs.checking.claims import slices_of
from jobs.models import Blob, Evidence, Job, Receipt, Replica, VerificationBatch
from jobs.services.settlement import NEVER
from jobs.states import JobState
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

TWO = {"method": "exact", "copies": 2, "quorum": 2}


@pytest.fixture(autouse=True)
def _queues_emptied() -> Iterator[None]:
    """What these tests send is for no worker."""
    yield
    with current_app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        for queue in ("control", "verify", "conclude"):
            channel.queue_purge(queue)


def job_reported() -> Job:
    job = job_make(verification=TWO)
    for _ in range(2):
        replica_report(job)
    return job


def queue_lengths() -> dict[str, int]:
    with current_app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        return {queue: channel._size(queue) for queue in ("verify", "conclude")}


@pytest.mark.django_db
def test_reported_replicas_are_claimed_once_in_one_batch() -> None:
    jobs = {job_reported().pk for _ in range(3)}
    tasks.verification_dispatch()
    tasks.verification_dispatch()
    batch = VerificationBatch.objects.get()
    assert {uuid.UUID(one) for one in batch.job_ids} == jobs
    assert queue_lengths()["verify"] == 1, "little work is not cut"
    assert not Replica.objects.filter(verify_claimed_until=None).exists()


@pytest.mark.django_db
def test_idle_dispatcher_does_nothing() -> None:
    tasks.verification_dispatch()
    assert not VerificationBatch.objects.exists()
    assert queue_lengths() == {"verify": 0, "conclude": 0}


@pytest.mark.django_db
def test_new_receipt_claims_all_reported_replicas_of_its_job() -> None:
    job = job_make(verification=TWO)
    first = replica_report(job)
    Replica.objects.filter(pk=first.pk).update(verify_claimed_until=NEVER)
    tasks.verification_dispatch()
    assert not VerificationBatch.objects.exists()
    replica_report(job)
    tasks.verification_dispatch()
    assert VerificationBatch.objects.get().job_ids == [str(job.pk)]
    first.refresh_from_db()
    assert first.verify_claimed_until is not None
    assert first.verify_claimed_until < NEVER


@pytest.mark.django_db
def test_claim_that_expired_is_claimed_again_and_lost_batches_are_forgotten() -> None:
    job_reported()
    tasks.verification_dispatch()
    lost = VerificationBatch.objects.get()
    Replica.objects.update(verify_claimed_until=timezone.now() - timedelta(seconds=1))
    VerificationBatch.objects.update(created_at=timezone.now() - claims.BATCH_KEPT - timedelta(seconds=1))
    tasks.verification_dispatch()
    assert VerificationBatch.objects.get().pk != lost.pk


@pytest.mark.django_db
def test_lost_batch_is_forgotten_also_when_nothing_is_to_be_checked() -> None:
    lost = VerificationBatch.objects.create(job_ids=[])
    VerificationBatch.objects.update(created_at=timezone.now() - claims.BATCH_KEPT - timedelta(seconds=1))
    tasks.verification_dispatch()
    assert not VerificationBatch.objects.filter(pk=lost.pk).exists()


@pytest.mark.parametrize("error", [OperationalError("away"), RedisConnectionError("away"), ConnectionRefusedError("away")])
@pytest.mark.django_db
def test_broker_away_releases_the_claims(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    job_reported()

    def away(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "chord", away)
        tasks.verification_dispatch()
    assert "the broker is away" in caplog.text
    assert not VerificationBatch.objects.exists()
    assert set(Replica.objects.values_list("verify_claimed_until", flat=True)) == {None}


def test_dispatchers_at_once_claim_each_job_once(own_database: str) -> None:
    jobs = [str(job_reported().pk) for _ in range(6)]
    start, failures = threading.Barrier(3), []

    def run() -> None:
        try:
            start.wait(timeout=30)
            tasks.verification_dispatch()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    claimed = [job_id for batch in VerificationBatch.objects.all() for job_id in batch.job_ids]
    assert sorted(claimed) == sorted(jobs)


@pytest.mark.django_db
def test_header_and_body_conclude_the_jobs_of_a_batch_and_the_body_twice_changes_nothing() -> None:
    jobs = [job_reported() for _ in range(2)]
    batch = VerificationBatch.objects.create(job_ids=[str(job.pk) for job in jobs])
    tasks.replicas_check([str(job.pk) for job in jobs])
    tasks.batch_settle(str(batch.pk))
    tasks.batch_settle(str(batch.pk))
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.COMPLETED}
    assert not VerificationBatch.objects.exists()


@pytest.mark.django_db
def test_header_never_raises_and_checks_the_other_jobs(caplog: pytest.LogCaptureFixture) -> None:
    job = job_reported()
    with caplog.at_level(logging.CRITICAL, "jobs.tasks"):
        tasks.replicas_check([str(uuid.uuid4()), str(job.pk)])
        tasks.replicas_check(["no id"])
    assert Evidence.objects.filter(replica__job=job, check_name="comparison", passed=True).exists()


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), KeyboardInterrupt(), SoftTimeLimitExceeded(), RuntimeError()], ids=repr)
@pytest.mark.django_db
def test_header_ends_quietly_whatever_ends_it_and_what_was_found_is_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    job = job_reported()
    found = children.outcomes

    def broken_off(*arguments: Any) -> Iterator[Any]:
        yield next(found(*arguments))
        raise error

    monkeypatch.setattr(making, "outcomes", broken_off)
    with caplog.at_level(logging.CRITICAL, "jobs.tasks"):
        tasks.replicas_check([str(job.pk)])
    assert Evidence.objects.filter(replica__job=job).count() == 4


def test_two_workers_at_once_write_each_evidence_once(own_database: str, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [str(job_reported().pk) for _ in range(5)]
    start = threading.Barrier(2)

    def run() -> None:
        start.wait(timeout=30)
        try:
            tasks.replicas_check(jobs)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert "broken off" not in caplog.text
    assert Evidence.objects.count() == 5 * (2 * 4 + 1)
    assert set(Evidence.objects.values_list("passed", flat=True)) == {True}


@pytest.mark.django_db
def test_checks_of_many_jobs_take_few_statements(django_assert_num_queries: Any) -> None:
    jobs = [job_reported().pk for _ in range(4)]
    making.jobs_check(job_ids=jobs[:1])
    with django_assert_num_queries(6):  # replicas, evidence, descriptors; and the evidence in a savepoint
        making.jobs_check(job_ids=jobs[1:])


@pytest.mark.django_db
def test_claim_takes_the_same_number_of_statements_for_few_and_for_many(django_assert_num_queries: Any) -> None:
    for count in (1, 4):
        for _ in range(count):
            job_reported()
        with django_assert_num_queries(7):  # find, lock, sizes, claim, batch; in a savepoint
            assert [len(batch.job_ids) for batch in claims.batches_claim(now=timezone.now())] == [count]


@pytest.mark.django_db
def test_jobs_with_large_archives_are_batches_of_their_own_and_claimed_for_longer(settings: Settings) -> None:
    small, large, larger = job_reported(), job_reported(), job_reported()
    for number, job in enumerate((large, larger)):
        digest = "sha256:" + f"{number}" * 64
        Blob.objects.create(digest=digest, size_bytes=(10 + 10 * number) * 2**30)
        Receipt.objects.filter(replica__job=job).update(archive=digest)
    batches = claims.batches_claim(now=timezone.now())
    assert batches[0].job_ids == [small.pk]
    assert {batch.job_ids[0] for batch in batches[1:]} == {large.pk, larger.pk}
    assert len(batches) == 3
    until = {job: Replica.objects.filter(job=job).values_list("verify_claimed_until", flat=True)[0] for job in (small, large, larger)}
    longer = [until[job] - until[small] for job in (large, larger)]  # type: ignore[operator]  # all are claimed
    assert timedelta(minutes=10) < longer[0] < longer[1] < timedelta(hours=1)


@pytest.mark.django_db
def test_batches_that_could_not_be_sent_are_released_and_those_that_were_are_kept(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.NEXA_LARGE_ARCHIVE_BYTES = 0
    jobs = {job_reported().pk for _ in range(3)}
    sent: list[Any] = []

    def chord_once(header: Any) -> Any:
        if sent:
            raise OperationalError("away")
        sent.append(header)
        return lambda body: None

    monkeypatch.setattr(tasks, "chord", chord_once)
    tasks.verification_dispatch()
    kept = VerificationBatch.objects.get()
    claimed = Replica.objects.exclude(verify_claimed_until=None).values_list("job_id", flat=True)
    assert {str(job_id) for job_id in claimed} == set(kept.job_ids)
    assert len(jobs) == 3


@pytest.mark.parametrize(("count", "widths"), [(0, []), (1, [1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (5, [2, 1, 1, 1]), (9, [3, 2, 2, 2])])
def test_slices_cut_a_batch_into_at_most_parallel_parts(count: int, widths: list[int]) -> None:
    ids = [uuid.uuid4() for _ in range(count)]
    slices = slices_of(dict.fromkeys(ids, 0.0), parallel=4)
    assert sorted(map(len, slices), reverse=True) == widths
    assert {one for part in slices for one in part} == set(ids)


@pytest.mark.parametrize(("jobs", "slices"), [(1, 1), (250, 1), (251, 2), (1000, 4), (2500, 8)])
def test_a_batch_is_cut_where_there_is_work_for_several(jobs: int, slices: int) -> None:
    assert len(claims._batch({uuid.uuid4(): 0.0 for _ in range(jobs)}).slices) == slices


def test_slices_share_the_work_not_the_number() -> None:
    heavy, *light = [uuid.uuid4() for _ in range(101)]
    slices = slices_of({heavy: 10.0, **dict.fromkeys(light, 0.0)}, parallel=2)
    assert sorted(map(len, slices)) == [1, 100]


@pytest.mark.django_db
def test_one_job_that_cannot_be_settled_keeps_no_other_from_being_paid(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, job = job_reported(), job_reported()
    tasks.replicas_check([str(job.pk)])
    batch = VerificationBatch.objects.create(job_ids=[str(uuid.uuid4()), str(broken.pk), str(job.pk)])
    Job.objects.filter(pk=broken.pk).update(descriptor={})
    with caplog.at_level(logging.CRITICAL, "jobs.tasks"):
        tasks.batch_settle(str(batch.pk))
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(settings.CELERY_BEAT_SCHEDULE) - {"control.mails_send", "control.webhooks_deliver"}))  # threads
def test_each_periodic_task_runs_on_an_empty_portal_and_again(name: str) -> None:
    current_app.loader.import_default_modules()
    for _ in range(2):
        assert current_app.tasks[name].apply(throw=True).successful()
