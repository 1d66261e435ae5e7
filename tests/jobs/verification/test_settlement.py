"""Settlement: from evidence to verdicts, payments and terminal states, on the real ledger."""

from __future__ import annotations

import math
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import override_settings

from jobs.models import Calibration, Job, JobEvent, Replica
from jobs.services.closing import job_close, job_fail
from jobs.services.disputes import disputes_rule
from jobs.services.replicas import replicas_queue
from jobs.services.settlement import NEVER, job_settle
from jobs.services.submission import job_cancel
from jobs.states import JobState, ReplicaState, TransitionError
from jobs.verdicts import AskForMore, Conclude, Decision, Dispute, NoValidResult, Wait
from ledger.models import Account, Entry, Posting
from ledger.services import account_of, escrow_account
from nodes.models import Node
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import FILES, replica_lease, replica_report
from workers.protocol.keys import PrivateKey
from workers.protocol.pay import payment_micro

TWO = {"method": "exact", "copies": 2, "quorum": 2}
OTHERWISE = {**FILES, "summary.json": b'{"energy":-9.0}'}


def no_archive(data: bytes) -> bytes:
    return b"no archive"


def settled(job: Job) -> Any:
    job_check(job_id=job.pk)
    decision = job_settle(job_id=job.pk)
    job.refresh_from_db()
    return decision


def books_check() -> None:
    """Postings sum to zero, balances are their sums, and nothing of a closed job is left in escrow."""
    assert sum(Posting.objects.values_list("amount_micro", flat=True)) == 0
    for account in Account.objects.all():
        assert account.balance_micro == sum(account.postings.values_list("amount_micro", flat=True))
    waiting = Job.objects.exclude(state__in=[JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
    assert escrow_account().balance_micro == sum(waiting.values_list("reserved_micro", flat=True))


def states(job: Job) -> list[str]:
    return sorted(job.replicas.values_list("state", flat=True))


def balance(replica: Replica) -> int:
    assert replica.node_owner is not None
    return account_of(user=replica.node_owner).balance_micro


@pytest.mark.django_db
def test_two_of_two_agree_completes_pays_both_alike_and_refunds_the_rest() -> None:
    job = job_make(verification=TWO)
    before = account_of(user=job.owner).balance_micro
    first, second = replica_report(job), replica_report(job)
    decision = settled(job)
    assert isinstance(decision, Conclude)
    assert (job.state, job.canonical_replica_id) == (JobState.COMPLETED, first.pk)
    assert job.concluded_at is not None
    assert job.verdict_summary == {"agreeing": 2, "reported": 2, "quorum": 2, "worst": None}
    paid = payment_micro(estimated_flops=job.estimated_flops, calibration_ratio=1.0, rate_micro=job.credit_rate_micro)
    assert balance(first) == balance(second) == paid == 1000
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro - 2 * paid
    assert {(r.state, r.verdict, r.paid_micro) for r in job.replicas.all()} == {("accepted", "agree", paid)}
    entry = Entry.objects.get(idempotency_key=f"payment:{second.pk}")
    assert entry.evidence["receipt"] == second.receipt.digest
    assert entry.evidence["formula"] == {
        "version": "1",
        "estimated_flops": "3600000000000.0",
        "calibration_ratio": "1.0",
        "rate_micro": "1000000",
        "share_micro": str(job.reserved_micro // 2),
    }
    books_check()


@pytest.mark.django_db
def test_settled_twice_is_settled_once() -> None:
    job = job_make(verification=TWO)
    for _ in range(2):
        replica_report(job)
    settled(job)
    entries, events = Entry.objects.count(), JobEvent.objects.count()
    assert settled(job) is None
    assert (Entry.objects.count(), JobEvent.objects.count()) == (entries, events)


@pytest.mark.django_db
def test_nothing_reported_is_nothing_to_decide() -> None:
    job = job_make(verification=TWO)
    assert settled(job) is None
    assert job.state == JobState.QUEUED


@pytest.mark.django_db
def test_first_of_two_waits_and_rests_until_another_receipt() -> None:
    job = job_make(verification=TWO)
    replica = replica_report(job)
    assert settled(job) == Wait({replica.pk: "undecided"})  # type: ignore[dict-item]
    replica.refresh_from_db()
    assert (replica.verdict, replica.verify_claimed_until) == ("undecided", NEVER)
    assert job.state == JobState.QUEUED
    assert Posting.objects.filter(entry__kind="payment").count() == 0


@pytest.mark.django_db
def test_missing_checks_do_not_rest() -> None:
    job = job_make(verification=TWO)
    replica = replica_report(job)
    decision = job_settle(job_id=job.pk)
    assert isinstance(decision, Wait)
    assert decision.checks_missing
    replica.refresh_from_db()
    assert replica.verify_claimed_until is None


@pytest.mark.django_db
def test_disagreement_asks_for_more_and_a_third_decides() -> None:
    job = job_make(verification=TWO)
    odd, first = replica_report(job, OTHERWISE), replica_report(job)
    assert settled(job) == AskForMore(count=1, verdicts={odd.pk: "undecided", first.pk: "undecided"})  # type: ignore[dict-item]
    assert (job.state, states(job)) == (JobState.QUEUED, ["queued", "reported", "reported"])
    second = replica_report(job)
    settled(job)
    assert (job.state, job.canonical_replica_id) == (JobState.COMPLETED, first.pk)
    odd.refresh_from_db()
    assert (odd.state, odd.verdict, odd.paid_micro, balance(odd)) == ("rejected", "disagree", 0, 0)
    assert balance(first) == balance(second) > 0
    books_check()


@pytest.mark.django_db
def test_disagreement_up_to_the_cap_is_a_dispute_that_keeps_the_reservation() -> None:
    job = job_make(verification=TWO)
    asked = 0
    for number in range(job.replicas_max):
        replica_report(job, {**FILES, "summary.json": f'{{"energy":{number}}}'.encode()})
        if number % 2 or number >= 2:
            decision = settled(job)
            asked += decision.count if isinstance(decision, AskForMore) else 0
    assert isinstance(decision, Dispute)
    assert (job.state, job.concluded_at) == (JobState.DISPUTED, None)
    assert job.replicas.count() == job.replicas_max == 2 + asked
    assert set(states(job)) == {"reported"}
    assert set(job.replicas.values_list("verify_claimed_until", flat=True)) == {NEVER}
    assert settled(job) is None
    books_check()


@pytest.mark.django_db
def test_a_dispute_that_nobody_settles_ends_at_its_deadline_unpaid_and_refunded() -> None:
    job = job_make(verification=TWO)
    before = account_of(user=job.owner).balance_micro
    for number in range(job.replicas_max):
        replica_report(job, {**FILES, "summary.json": f'{{"energy":{number}}}'.encode()})
        if number >= 1:
            settled(job)
    assert job.state == JobState.DISPUTED
    deadline_at = job.dispute_deadline_at
    assert deadline_at is not None

    assert disputes_rule(now=deadline_at - timedelta(seconds=1)) == 0
    assert disputes_rule(now=deadline_at) == 1
    assert disputes_rule(now=deadline_at) == 0

    job.refresh_from_db()
    assert (job.state, job.failure_code) == (JobState.FAILED, "dispute_unresolved")
    assert set(states(job)) == {"rejected"}
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro
    books_check()


@pytest.mark.django_db
def test_only_invalid_results_fail_the_job_and_refund_everything() -> None:
    job = job_make(verification=TWO)
    before = account_of(user=job.owner).balance_micro
    for _ in range(job.replicas_max):
        replica_report(job, archive_bytes=no_archive)
        decision = settled(job)
    assert isinstance(decision, NoValidResult)
    assert (job.state, job.failure_code) == (JobState.FAILED, "results_invalid")
    assert {(r.state, r.verdict) for r in job.replicas.all()} == {("rejected", "invalid")}
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro
    books_check()


@pytest.mark.django_db
def test_spare_replica_that_is_out_is_cancelled_when_the_quorum_is_met() -> None:
    job = job_make(verification={"method": "exact", "copies": 3, "quorum": 2})
    spare = replica_lease(job)
    for _ in range(2):
        replica_report(job)
    settled(job)
    spare.refresh_from_db()
    assert job.state == JobState.COMPLETED
    assert (spare.state, spare.cancel_reason) == (ReplicaState.CANCELLED, "The job was concluded.")
    assert spare.concluded_at is not None
    books_check()


@pytest.mark.django_db
def test_more_accepted_than_reserved_for_share_the_reservation() -> None:
    job = job_make(verification=TWO)
    Job.objects.filter(pk=job.pk).update(reserved_micro=job.reserved_micro)
    Calibration.objects.create(image_key=str(job.image["image_id"]), job_type=job.job_type, log_ratio_sum=math.log(4), count=1)
    for _ in range(2):
        replica_report(job)
    replicas_queue(job=job, count=4)  # what late receipts of expired leases amount to
    for _ in range(4):
        replica_report(job)
    settled(job)
    assert job.replicas.filter(state="accepted").count() == 6 > job.replicas_max
    assert set(job.replicas.values_list("paid_micro", flat=True)) == {job.reserved_micro // 6}
    books_check()


@pytest.mark.django_db
def test_a_reservation_of_less_than_a_micro_for_each_pays_nobody_and_comes_back() -> None:
    job = job_make(verification=TWO, estimated_flops=1.0)
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    before = account_of(user=job.owner).balance_micro
    replicas_queue(job=job, count=job.reserved_micro - 1)  # what late receipts of expired leases amount to
    reported = [replica_report(job) for _ in range(job.reserved_micro + 1)]
    settled(job)
    assert (job.state, states(job)) == (JobState.COMPLETED, ["accepted"] * (job.reserved_micro + 1))
    assert {balance(replica) for replica in reported} == {0}
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro
    books_check()


@pytest.mark.django_db
def test_job_closed_or_failed_or_cancelled_refunds_and_cancels_replicas() -> None:
    for close in (
        lambda job: job_close(job=job, to=JobState.FAILED, code="x", message="why"),
        lambda job: job_fail(job=job, code="x", message="why"),
        lambda job: job_cancel(job=job),
    ):
        job = job_make(verification=TWO)
        before = account_of(user=job.owner).balance_micro
        replica_report(job)
        close(job)
        job.refresh_from_db()
        assert job.state in (JobState.FAILED, JobState.CANCELLED)
        assert set(states(job)) == {"cancelled"}
        assert account_of(user=job.owner).balance_micro == before + job.reserved_micro
        books_check()
        with pytest.raises(TransitionError):
            job_fail(job=job, code="x", message="again")


def tenured(job: Job) -> list[tuple[Node, PrivateKey]]:
    return [node_make(user_make()) for _ in range(2)]


@pytest.mark.django_db
def test_calibration_takes_tenured_nodes_only_and_moves_the_next_payment() -> None:
    nodes = tenured(job_make())
    with override_settings(NEXA_TENURE_RECEIPTS=1):
        paid = []
        for _ in range(3):
            job = job_make(verification=TWO)
            for node, key in nodes:
                # 90 s at 80 GFLOPS: 7.2e12, twice the estimate of 3.6e12
                replica_report(job, node=node, key=key, cpu_seconds=90.0, benchmark_gflops=80.0)
            settled(job)
            paid.append(job.replicas.first().paid_micro)  # type: ignore[union-attr]
    assert paid == [1000, 1000, pytest.approx(2000, abs=1)]
    row = Calibration.objects.get()
    assert row.count == 4
    assert row.log_ratio_sum == pytest.approx(4 * math.log(2))
    books_check()


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "gflops", "factor"), [(1e300, 1e9, 4), (1e-300, 1e-3, 1 / 4), (0.0, 20.0, None)])
def test_absurd_measurement_counts_as_the_clip_at_most(seconds: float, gflops: float, factor: float | None) -> None:
    nodes = tenured(job_make())
    with override_settings(NEXA_TENURE_RECEIPTS=0):
        job = job_make(verification=TWO)
        for node, key in nodes:
            replica_report(job, node=node, key=key, cpu_seconds=seconds, benchmark_gflops=gflops)
        settled(job)
    sums = list(Calibration.objects.filter(count=2).values_list("log_ratio_sum", flat=True))
    assert sums == pytest.approx([2 * math.log(factor)] if factor else [])


@pytest.mark.django_db
def test_a_job_with_gpus_feeds_no_calibration_and_is_paid_by_none() -> None:
    gpu: dict[str, Any] = {"verification": TWO, "tier": 1, "requirements": {"gpu": True}}
    with override_settings(NEXA_TENURE_RECEIPTS=0):
        job = job_make(**gpu)
        for _ in range(2):
            replica_report(job, cpu_seconds=1.0, benchmark_gflops=20.0)
        settled(job)
    assert not Calibration.objects.exists()
    Calibration.objects.create(image_key=str(job.image["image_id"]), job_type=job.job_type, log_ratio_sum=math.log(1 / 4), count=1)
    again = job_make(**gpu)
    for _ in range(2):
        replica_report(again)
    settled(again)
    assert set(again.replicas.values_list("paid_micro", flat=True)) == {1000}, "as cores measured jobs of the same image and type"


@pytest.mark.django_db
def test_single_copy_feeds_no_calibration() -> None:
    with override_settings(NEXA_TENURE_RECEIPTS=0):
        job = job_make()
        replica_report(job)
        settled(job)
    assert job.state == JobState.COMPLETED
    assert not Calibration.objects.exists()


@pytest.mark.django_db
def test_verdict_of_a_numeric_job_names_the_worst_deviation() -> None:
    job = job_make(verification={**TWO, "method": "numeric"}, tolerance=0.1)
    replica_report(job, {"e.csv": b"x,y\n1.0,5\n"})
    replica_report(job, {"e.csv": b"x,y\n1.05,5\n"})
    settled(job)
    assert job.verdict_summary is not None
    assert job.verdict_summary["worst"]["place"] == "row 1, x"


def test_two_settlements_at_once_pay_once(own_database: str) -> None:
    jobs = []
    for _ in range(4):
        job = job_make(verification=TWO)
        for _ in range(2):
            replica_report(job)
        job_check(job_id=job.pk)
        jobs.append(job)
    start = threading.Barrier(4)
    failures: list[BaseException] = []
    decisions: list[Decision | None] = []

    def run(reverse: bool) -> None:
        try:
            start.wait(timeout=30)
            decisions.extend(job_settle(job_id=job.pk) for job in sorted(jobs, key=lambda job: job.pk, reverse=reverse))
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert sum(isinstance(one, Conclude) for one in decisions) == 4
    assert Entry.objects.filter(kind="payment").count() == 8
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.COMPLETED}
    books_check()


def test_a_job_is_cancelled_while_evidence_about_its_replicas_is_written(own_database: str) -> None:
    """Evidence refers to replicas in any order; who ends a job must not wait for that, or they may wait for each other."""
    job = job_make(verification=TWO)
    replica = replica_report(job)
    parameters = connection.get_connection_params()
    names = ("host", "port", "user", "dbname")
    with psycopg.connect(**{name: parameters[name] for name in names if name in parameters}) as writer:
        writer.execute("SELECT 1 FROM jobs_replica WHERE id = %s FOR KEY SHARE", [replica.pk])  # as a foreign key's check does
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
        assert job_cancel(job=job).state == JobState.CANCELLED
