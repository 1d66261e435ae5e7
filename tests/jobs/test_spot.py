"""The draw of `spot` jobs: by a key that was published before, once, and without anything to see."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.checking.codes import CHECK_IMPOSSIBLE
from jobs.checking.documents import OWN_CHECKS, Finding, failure_findings
from jobs.checking.evidence import evidence_insert
from jobs.evidence.custody import verdict_sentence
from jobs.models import Job, Ruling, SpotKey
from jobs.services.disputes import dispute_rule
from jobs.services.leases import queue_deadlines_enforce
from jobs.services.replicas import replicas_queue
from jobs.services.settlement import NEVER, job_settle
from jobs.services.spot import SPOT_SHARE_DEFAULT, spot_draw
from jobs.services.transitions import job_state_derive
from jobs.states import JobState, ReplicaState
from jobs.verdicts import AskForMore, Conclude, Verdict
from ledger.models import LogItem
from ledger.services import account_of, escrow_account
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make
from tests.factories.receipts import FILES, replica_report
from tests.jobs.gateway.queued_jobs import queued_job

TWICE = {"method": "exact", "copies": 2, "quorum": 2}
TWICE_FOR_CERTAIN = {"method": "exact", "policy": "spot", "spot_share": 1.0}


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


def late_for(job: Job) -> datetime:
    """When nobody has taken what is queued of the job in time. What is in its queue came a moment ago."""
    return timezone.now() + (job.queue_deadline_at - job.submitted_at) + timedelta(seconds=1)


@pytest.mark.django_db
def test_a_result_whose_spot_check_finds_no_host_stands_by_the_default_ruling_and_is_paid() -> None:
    key_make()
    job = job_make(verification=TWICE_FOR_CERTAIN)
    drawn(job)
    only = replica_report(job)
    job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    assert queue_deadlines_enforce(now=timezone.now()) == 0
    assert queue_deadlines_enforce(now=late_for(job)) == 1
    job.refresh_from_db()
    only.refresh_from_db()
    assert (job.state, job.quorum, job.canonical_replica_id) == (JobState.COMPLETED, 2, only.pk)
    assert job.verdict_summary is not None
    assert job.verdict_summary["ruled"] is True
    assert "no host was found" in verdict_sentence(state=JobState.COMPLETED, quorum=1, summary=job.verdict_summary)
    ruling = Ruling.objects.get(job=job)
    assert (ruling.by, ruling.canonical_id) == (None, only.pk)
    assert only.state == ReplicaState.ACCEPTED
    assert only.node_owner is not None
    assert account_of(user=only.node_owner).balance_micro == only.paid_micro > 0
    assert escrow_account().balance_micro == 0
    leaf = json.loads(bytes(LogItem.objects.get(kind="receipt").data))
    assert (leaf["ruled"], leaf["quorum"], leaf["spot"]["chosen"]) == (True, 2, True)
    assert queue_deadlines_enforce(now=late_for(job)) == 0


@pytest.mark.django_db
def test_a_result_that_is_not_checked_yet_waits_though_its_spot_check_found_no_host() -> None:
    key_make()
    job = job_make(verification=TWICE_FOR_CERTAIN)
    drawn(job)
    replica_report(job)
    replicas_queue(job=job, count=1)
    job_state_derive(job=job)
    assert queue_deadlines_enforce(now=late_for(job)) == 0
    job.refresh_from_db()
    assert job.state == JobState.QUEUED
    job_check(job_id=job.pk)
    assert queue_deadlines_enforce(now=late_for(job)) == 1
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED


@pytest.mark.django_db
@pytest.mark.parametrize("check_name", ["signature", "archive"])
def test_a_result_that_the_portal_could_not_check_waits_for_a_moderator(check_name: str) -> None:
    key_make()
    job = job_make(verification=TWICE_FOR_CERTAIN)
    drawn(job)
    only = replica_report(job)
    passed = [Finding(str(only.pk), name, passed=True) for name in OWN_CHECKS[: OWN_CHECKS.index(check_name)]]
    evidence_insert([*passed, *failure_findings(str(only.pk), check_name, code=CHECK_IMPOSSIBLE, message="away")])
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    assert queue_deadlines_enforce(now=late_for(job)) == 1
    job.refresh_from_db()
    only.refresh_from_db()
    assert (job.state, only.state, only.verdict) == (JobState.DISPUTED, ReplicaState.REPORTED, Verdict.UNDECIDED)
    assert only.verify_claimed_until == NEVER
    assert job.dispute_deadline_at is not None
    assert not job.replicas.filter(state=ReplicaState.QUEUED).exists()
    dispute_rule(job=job, by=moderator_make(), canonical=only, reason="It is a result.")
    only.refresh_from_db()
    assert only.paid_micro > 0
    assert escrow_account().balance_micro == 0


@pytest.mark.django_db
@pytest.mark.parametrize("case", ["invalid", "disagree", "fixed"])
def test_no_other_result_stands_because_nobody_was_there_to_compare_it(case: str) -> None:
    key_make()
    job = job_make(verification=TWICE) if case == "fixed" else job_make(verification=TWICE_FOR_CERTAIN)
    drawn(job)
    replica_report(job, log_bytes=(lambda data: data + b"x") if case == "invalid" else (lambda data: data))
    if case == "disagree":
        replicas_queue(job=job, count=1)
        replica_report(job, {**FILES, "summary.json": b'{"energy":-9.0}'})
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    assert queue_deadlines_enforce(now=late_for(job)) == 1
    job.refresh_from_db()
    assert (job.state, job.failure_code) == (JobState.FAILED, "no_eligible_host")
    assert not job.replicas.filter(paid_micro__gt=0).exists()
    assert escrow_account().balance_micro == 0


@pytest.mark.django_db
def test_the_secret_is_in_no_text_of_the_key() -> None:
    key = key_make()
    for text in (str(key), repr(key)):
        assert bytes(key.secret).hex() not in text
        assert repr(bytes(key.secret)) not in text
