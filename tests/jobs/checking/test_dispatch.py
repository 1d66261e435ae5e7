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
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import tasks
from jobs.models import Evidence, Job, Replica, VerificationBatch
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
    assert queue_lengths()["verify"] == 3
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
def test_claim_that_expired_is_claimed_again_and_lost_batches_are_forgotten(settings: Settings) -> None:
    job_reported()
    tasks.verification_dispatch()
    lost = VerificationBatch.objects.get()
    Replica.objects.update(verify_claimed_until=timezone.now() - timedelta(seconds=1))
    VerificationBatch.objects.update(created_at=timezone.now() - timedelta(seconds=11 * settings.NEXA_VERIFY_CLAIM_SECONDS))
    tasks.verification_dispatch()
    assert VerificationBatch.objects.get().pk != lost.pk


@pytest.mark.django_db
def test_lost_batch_is_forgotten_also_when_nothing_is_to_be_checked(settings: Settings) -> None:
    lost = VerificationBatch.objects.create(job_ids=[])
    VerificationBatch.objects.update(created_at=timezone.now() - timedelta(seconds=11 * settings.NEXA_VERIFY_CLAIM_SECONDS))
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
        tasks.replicas_check([str(uuid.uuid4()), "no id", str(job.pk)])
    assert Evidence.objects.filter(replica__job=job, check_name="comparison", passed=True).exists()


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
def test_periodic_tasks_run_on_an_empty_portal() -> None:
    tasks.leases_reap()
    tasks.queue_deadlines_enforce()
    tasks.outbox_push()
