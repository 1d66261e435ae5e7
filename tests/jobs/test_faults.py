"""Whose fault a failure is, and what a job makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from jobs.checking.codes import CHECK_IMPOSSIBLE, evidence_fault
from jobs.faults import FAILURES, FaultClass, failure_fault
from jobs.models import Evidence, Job, Replica
from jobs.services.failures import replica_failed
from jobs.services.replicas import replicas_queue
from jobs.services.settlement import job_settle
from jobs.states import JobState, ReplicaState
from jobs.verdicts import AskForMore, Conclude, Dispute
from ledger.models import LogItem
from ledger.services import escrow_account
from nodes.models import Node
from people.models import User
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease, replica_report
from workers.protocol.messages.receipt import Failure, FailureCode

TWO = {"method": "exact", "copies": 2, "quorum": 2}


def failed(job: Job, code: FailureCode, *, owner: User | None = None, node: Node | None = None) -> Job:
    """The job after one more host reported this."""
    replica = replica_lease(job, node or node_make(owner or user_make())[0])
    replica_failed(replica=replica, job=job, failure=Failure(code=code, message="why"), now=timezone.now())
    job.refresh_from_db()
    return job


def test_every_code_that_a_receipt_may_state_has_a_class() -> None:
    assert set(FAILURES) == set(FailureCode)
    for code, fault in FAILURES.items():
        assert (fault == FaultClass.HOST) == code.value.startswith("host_")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("check_impossible", FaultClass.PORTAL),
        ("output_unreadable", FaultClass.PROGRAM),
        ("check_exceeded", FaultClass.LIMIT),
        ("check_crashed", FaultClass.CHECKER),
        ("archive_refused", FaultClass.HOST),
        ("receipt_contradiction", FaultClass.HOST),
        ("results_differ", None),
        ("not_checked", None),
        ("", None),
    ],
)
def test_the_class_of_a_failed_check(code: str, fault: FaultClass | None) -> None:
    assert evidence_fault(code) == fault


@pytest.mark.parametrize(("code", "fault"), [("exit_nonzero", FaultClass.PROGRAM), ("", None), ("no_such_code", None)])
def test_the_class_of_a_replicas_failure(code: str, fault: FaultClass | None) -> None:
    assert failure_fault(code) == fault


@pytest.mark.django_db
@pytest.mark.parametrize("code", [FailureCode.EXIT_NONZERO, FailureCode.LIMIT_WALL, FailureCode.INPUT_MISMATCH])
def test_a_fault_of_the_job_is_believed_at_once_of_one_copy_and_by_two_owners_of_more(code: FailureCode) -> None:
    assert failed(job_make(), code).state == JobState.FAILED
    job, owner = job_make(verification=TWO), user_make()
    assert failed(job, code, owner=owner).state == JobState.QUEUED
    assert failed(job, code, owner=owner).state == JobState.QUEUED
    assert failed(job, code).state == JobState.FAILED
    assert job.failure_code == code


@pytest.mark.django_db
@override_settings(NEXA_FAULT_OWNERS=3)
def test_how_many_owners_are_believed_is_a_setting() -> None:
    job = job_make(verification=TWO)
    for _ in range(2):
        assert failed(job, FailureCode.EXIT_NONZERO).state == JobState.QUEUED
    assert failed(job, FailureCode.EXIT_NONZERO).state == JobState.FAILED


@pytest.mark.django_db
def test_a_chosen_spot_job_believes_its_first_host_no_more_than_two_copies_do() -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(policy="spot", spot_chosen=True, copies=2, quorum=2)
    job.refresh_from_db()
    assert failed(job, FailureCode.EXIT_NONZERO).state == JobState.QUEUED


@pytest.mark.django_db
def test_faults_of_hosts_use_up_attempts_and_are_told_by_class() -> None:
    job = job_make()
    with override_settings(NEXA_ATTEMPTS_MAX=3):
        failed(job, FailureCode.HOST_ENGINE)
        assert failed(job, FailureCode.HOST_DISK).state == JobState.QUEUED
        failed(job, FailureCode.IMAGE_UNAVAILABLE)
    assert (job.state, job.failure_code) == (JobState.FAILED, "attempts_exhausted")
    assert "2 by host, 1 by image" in job.failure_message


@pytest.mark.django_db
def test_a_fault_of_the_portal_uses_up_no_attempt() -> None:
    job = job_make()
    with override_settings(NEXA_ATTEMPTS_MAX=2):
        for _ in range(5):
            assert failed(job, FailureCode.CANCELLED).state == JobState.QUEUED
        failed(job, FailureCode.HOST_ENGINE)
        assert job.state == JobState.QUEUED


def unchecked(replica: Replica) -> None:
    """The portal gave up on the archive check of this replica."""
    Evidence.objects.filter(replica=replica).delete()
    Evidence.objects.create(replica=replica, check_name="signature", passed=True)
    for name in ("archive", "outputs", "log"):
        Evidence.objects.create(
            replica=replica, check_name=name, passed=False, code=CHECK_IMPOSSIBLE if name == "archive" else "not_checked"
        )


@pytest.mark.django_db
def test_what_the_portal_could_not_check_is_not_held_against_its_host() -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    first = replica_report(job)
    unchecked(first)
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    second = replica_report(job)
    unchecked(second)
    assert isinstance(job_settle(job_id=job.pk), Dispute)
    assert set(job.replicas.values_list("state", "verdict")) == {("reported", "undecided")}


@pytest.mark.django_db
def test_a_quorum_of_others_leaves_an_unchecked_result_undecided() -> None:
    job = job_make()
    first = replica_report(job)
    unchecked(first)
    job_settle(job_id=job.pk)
    replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    first.refresh_from_db()
    assert job.state == JobState.COMPLETED
    assert (first.state, first.verdict, first.paid_micro) == (ReplicaState.REJECTED, "undecided", 0)


@pytest.mark.django_db
@override_settings(NEXA_ATTEMPTS_MAX=1)
def test_results_that_may_be_a_quorum_are_decided_on_before_attempts_end_the_job() -> None:
    job = job_make(verification={"method": "exact", "copies": 3, "quorum": 2})
    for _ in range(2):
        replica_report(job)
    assert failed(job, FailureCode.HOST_DISK).state == JobState.VERIFYING
    job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=job.pk), Conclude)
    assert sorted(job.replicas.values_list("state", flat=True)) == ["accepted", "accepted", "failed"]


@pytest.mark.django_db
@pytest.mark.parametrize(("verification", "quorum"), [({"method": "exact", "copies": 1}, 1), (TWO, 2)], ids=["one copy", "two copies"])
def test_late_failures_that_are_believed_take_nothing_from_results_that_may_be_a_quorum(verification: dict[str, Any], quorum: int) -> None:
    job = job_make(verification=verification)
    late = [replica_lease(job, node_make(user_make())[0]) for _ in range(quorum)]
    Replica.objects.filter(pk__in=[replica.pk for replica in late]).update(state=ReplicaState.EXPIRED)
    replicas_queue(job=job, count=quorum)
    for _ in range(quorum):
        replica_report(job)
    for replica in late:
        replica.refresh_from_db()
        replica_failed(replica=replica, job=job, failure=Failure(code=FailureCode.EXIT_NONZERO, message="late"), now=timezone.now())
    job.refresh_from_db()
    assert job.state == JobState.VERIFYING
    job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=job.pk), Conclude)
    assert job.replicas.filter(state=ReplicaState.ACCEPTED, paid_micro__gt=0).count() == quorum


@pytest.mark.django_db
def test_a_failure_that_was_believed_ends_the_job_when_the_results_are_no_quorum() -> None:
    job = job_make(verification=TWO)
    for number in range(2):
        replica_report(job, {"out": str(number).encode()})
    replicas_queue(job=job, count=1)
    assert failed(job, FailureCode.EXIT_NONZERO).state == JobState.QUEUED
    assert failed(job, FailureCode.EXIT_NONZERO).state == JobState.VERIFYING
    job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    job.refresh_from_db()
    assert (job.state, job.failure_code, job.failure_message) == (JobState.FAILED, "exit_nonzero", "why")
    assert sorted(job.replicas.values_list("state", flat=True)) == ["cancelled", "cancelled", "failed", "failed"]
    assert escrow_account().balance_micro == 0
    assert not LogItem.objects.filter(kind="receipt").exists(), "nobody has judged these results"


@pytest.mark.django_db
def test_a_believed_failure_ends_no_job_of_which_the_portal_could_not_check_a_result() -> None:
    job = job_make()
    late = replica_lease(job)
    Replica.objects.filter(pk=late.pk).update(state=ReplicaState.EXPIRED)
    replicas_queue(job=job, count=1)
    unchecked(replica_report(job))
    late.refresh_from_db()
    replica_failed(replica=late, job=job, failure=Failure(code=FailureCode.EXIT_NONZERO, message="late"), now=timezone.now())
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    job.refresh_from_db()
    assert job.state == JobState.QUEUED


@pytest.mark.django_db
@override_settings(NEXA_ATTEMPTS_MAX=1)
def test_results_that_were_decided_on_before_do_not_keep_a_job_without_attempts() -> None:
    job = job_make(verification=TWO)
    replica_report(job)
    replica_report(job, {"other": b"result"})
    job_check(job_id=job.pk)
    assert isinstance(job_settle(job_id=job.pk), AskForMore)
    job.refresh_from_db()
    assert failed(job, FailureCode.HOST_DISK).failure_code == "attempts_exhausted"
