"""The draw of `spot` jobs: by a key that was published before, once, and without anything to see."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Job, SpotKey
from jobs.services.settlement import job_settle
from jobs.services.spot import SPOT_SHARE_DEFAULT, spot_draw
from jobs.states import JobState
from jobs.verdicts import AskForMore, Conclude
from tests.factories.checking import job_check
from tests.factories.receipts import replica_report
from tests.jobs.gateway.queued_jobs import queued_job


def key_make(*, published: bool = True, ends_in: timedelta = timedelta(hours=1), **fields: Any) -> SpotKey:
    now = timezone.now()
    return SpotKey.objects.create(
        secret=secrets.token_bytes(32),
        made_at=now - timedelta(hours=2),
        published_at=now - timedelta(hours=1) if published else None,
        ends_at=now + ends_in,
        **fields,
    )


def spot_job(share: float | None = 0.5, **fields: Any) -> Job:
    return queued_job(policy="spot", spot_share=share, **fields)


def drawn(*jobs: Job, now: datetime | None = None) -> None:
    with transaction.atomic():
        spot_draw(list(Job.objects.select_for_update().filter(pk__in=[job.pk for job in jobs])), now or timezone.now())
    for job in jobs:
        job.refresh_from_db()


@pytest.mark.django_db
def test_the_key_chooses_by_the_jobs_id_and_share() -> None:
    key = key_make()
    jobs = [spot_job() for _ in range(20)]
    drawn(*jobs)
    for job in jobs:
        number = int.from_bytes(hmac.digest(bytes(key.secret), job.pk.bytes, hashlib.sha256)[:8], "big")
        chosen = number < 2**63
        assert (job.spot_key_id, job.spot_chosen) == (key.pk, chosen)
        assert (job.copies, job.quorum) == ((2, 2) if chosen else (1, 1))
    assert {job.spot_chosen for job in jobs} == {True, False}


@pytest.mark.django_db
def test_a_job_is_drawn_once_whatever_keys_come_later() -> None:
    key_make(ends_in=timedelta(minutes=1))
    jobs = [spot_job() for _ in range(10)]
    drawn(*jobs)
    before = [(job.spot_key_id, job.spot_chosen) for job in jobs]
    SpotKey.objects.update(ends_at=timezone.now())
    key_make()
    drawn(*jobs)
    assert [(job.spot_key_id, job.spot_chosen) for job in jobs] == before


@pytest.mark.django_db
def test_a_job_drawn_without_a_key_is_not_drawn_again() -> None:
    job = spot_job(1e-9)
    drawn(job)
    assert (job.spot_key_id, job.spot_chosen, job.copies) == (None, True, 2)
    key_make()
    drawn(job)
    assert (job.spot_key_id, job.spot_chosen) == (None, True)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "unusable",
    [
        {"published": False},
        {"ends_in": -timedelta(seconds=1)},
        {"revealed_at": timezone.now()},
    ],
    ids=["not_in_the_public_log", "ended", "revealed"],
)
def test_an_unusable_key_chooses_nothing_and_every_job_runs_twice(unusable: dict[str, Any]) -> None:
    key_make(**unusable)
    job = spot_job(1e-9)
    drawn(job)
    assert (job.spot_key_id, job.spot_chosen, job.quorum) == (None, True, 2)


@pytest.mark.django_db
def test_the_key_that_ends_first_is_used_while_two_are_usable() -> None:
    key_make(ends_in=timedelta(hours=2))
    first = key_make(ends_in=timedelta(hours=1))
    job = spot_job()
    drawn(job)
    assert job.spot_key_id == first.pk


@pytest.mark.django_db
def test_a_fixed_job_is_left_alone_without_a_statement() -> None:
    key_make()
    jobs = [queued_job(copies=2)]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        spot_draw(jobs, timezone.now())
    assert len(queries) == 0
    assert (jobs[0].spot_chosen, jobs[0].copies) == (None, 2)


@pytest.mark.django_db
def test_a_hundred_jobs_are_drawn_in_two_statements() -> None:
    key_make()
    owner = spot_job().owner
    jobs = [spot_job(owner=owner) for _ in range(100)]
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        spot_draw(jobs, timezone.now())
    assert len(queries) == 2


@pytest.mark.django_db
def test_a_job_that_states_no_share_is_drawn_with_the_default() -> None:
    key_make()
    job = spot_job(None)
    drawn(job)
    assert job.spot_share == SPOT_SHARE_DEFAULT


@pytest.mark.django_db
def test_about_the_share_of_jobs_is_chosen() -> None:
    key = key_make()
    jobs = [
        Job(pk=uuid.UUID(bytes=hashlib.sha256(bytes([a, b])).digest()[:16]), policy="spot", spot_share=0.1)
        for a in range(20)
        for b in range(100)
    ]
    with transaction.atomic():
        spot_draw(jobs, timezone.now())  # no such rows: nothing is written
    assert {job.spot_key_id for job in jobs} == {key.pk}
    assert 120 < sum(bool(job.spot_chosen) for job in jobs) < 280


@pytest.mark.django_db
def test_nothing_more_is_queued_for_a_chosen_job_until_its_first_result_is_in() -> None:
    job = spot_job(1.0)
    key_make()
    drawn(job)
    assert job.spot_chosen
    assert job.replicas.count() == 1
    replica_report(job)
    assert job.replicas.count() == 1


@pytest.mark.django_db
def test_a_chosen_job_is_concluded_by_two_owners_and_a_passed_over_one_by_one() -> None:
    key_make()
    chosen, passed_over = spot_job(1.0), spot_job(1e-12)
    drawn(chosen, passed_over)
    for job in (chosen, passed_over):
        replica_report(job)
        job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=passed_over.pk), Conclude)
    assert isinstance(job_settle(job_id=chosen.pk), AskForMore)
    replica_report(chosen)
    job_check(job_id=chosen.pk)
    assert isinstance(job_settle(job_id=chosen.pk), Conclude)
    chosen.refresh_from_db()
    assert chosen.state == JobState.COMPLETED
    assert chosen.replicas.filter(state="accepted").count() == 2


@pytest.mark.django_db
def test_the_secret_is_in_no_text_of_the_key() -> None:
    key = key_make()
    for text in (str(key), repr(key)):
        assert bytes(key.secret).hex() not in text
        assert repr(bytes(key.secret)) not in text
