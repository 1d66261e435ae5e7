"""Leases: renewed by reports, expired by silence, never by an outage of ours."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import CoordinatorClock, Job, JobKind, Replica, SpotKey
from jobs.services import leases
from jobs.services.closing import job_fail
from jobs.services.failures import replica_substitute
from jobs.services.heartbeats import PortalAlive, node_heard
from jobs.services.leases import (
    ORDERS_BYTES_MAX,
    QUEUE_PATIENCE,
    leases_claim,
    leases_reap,
    leases_renew,
    queue_deadlines_enforce,
)
from jobs.services.outages import expiry_horizon, portal_alive_record
from jobs.services.transitions import replica_transition
from jobs.states import JobState, ReplicaState
from ledger.services import account_of, grant_post, reservation_of
from nodes.models import Node, NodeState
from tests.factories.ledger import entry_post
from tests.factories.nodes import node_make
from tests.factories.people import researcher_make, user_make
from tests.jobs.gateway.queued_jobs import queued_job
from workers.portal import ANSWER_LIMIT_BYTES
from workers.protocol.messages.exchange import CommandKind, FreeResources, LeaseReport, NoWork, Stage, Wishes
from workers.protocol.messages.machine import Tier

pytestmark = pytest.mark.django_db
FREE = FreeResources(slots=1, cpus=8, memory_bytes=2**36, disk_bytes=2**40)


def take(node: Node | None = None, now: datetime | None = None) -> Replica:
    node = node or node_make(user_make())[0]
    [replica] = leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=now or timezone.now())
    return replica


def node_of(replica: Replica) -> Node:
    assert replica.node is not None
    return replica.node


def report(replica: Replica, stage: Stage = Stage.RUNNING, **fields: Any) -> LeaseReport:
    assert replica.lease_id is not None
    return LeaseReport(lease_id=replica.lease_id, stage=stage, elapsed_seconds=1, **fields)


def renew(replica: Replica, node: Node | None = None, now: datetime | None = None, **fields: Any) -> Any:
    return leases_renew(node=node or node_of(replica), reports=[report(replica, **fields)], now=now or timezone.now())


def silence(replica: Replica, seconds: float = 1) -> datetime:
    """The moment `seconds` after the lease expired, the portal having served exchanges all the while."""
    replica.refresh_from_db()
    assert replica.lease_expires_at is not None
    now = replica.lease_expires_at + timedelta(seconds=seconds)
    CoordinatorClock.objects.update_or_create(pk=1, defaults={"alive_at": now})
    return now


class TestRenewal:
    def test_a_report_renews_and_the_first_running_one_says_running(self) -> None:
        queued_job()
        replica = take()
        before = replica.lease_expires_at
        now = timezone.now() + timedelta(seconds=10)
        assert [one.lease_id for one in renew(replica, now=now, stage=Stage.PULLING).renewals] == [replica.lease_id]
        replica.refresh_from_db()
        assert replica.state == ReplicaState.LEASED
        assert before is not None
        assert replica.lease_expires_at is not None
        assert replica.lease_expires_at > before
        renew(replica, progress=0.25)
        replica.refresh_from_db()
        assert replica.state == ReplicaState.RUNNING
        assert replica.progress is not None
        assert replica.progress["progress"] == 0.25
        assert replica.job.events.filter(kind="replica.running").count() == 1
        renew(replica)
        assert replica.job.events.filter(kind="replica.running").count() == 1

    def test_many_first_reports_of_running_are_recorded_in_as_many_statements_as_one(self, django_assert_num_queries: Any) -> None:
        for count in (1, 5):
            for _ in range(count):
                queued_job()
            node, _ = node_make(user_make())
            free = FREE.model_copy(update={"slots": count})
            request: dict[str, Any] = {"node": node, "request_id": uuid.uuid4(), "wanted": [Tier.CPU], "free": free, "wishes": Wishes()}
            taken = leases_claim(**request, now=timezone.now())
            with django_assert_num_queries(7):  # renewal, begin, jobs, replicas, states, events, end
                leases_renew(node=node, reports=[report(one) for one in taken], now=timezone.now())
            assert Replica.objects.filter(node=node, state=ReplicaState.RUNNING).count() == count

    def test_another_node_renews_nothing_and_is_told_to_stop(self) -> None:
        queued_job()
        replica = take()
        other, _ = node_make(user_make())
        answer = renew(replica, node=other, now=timezone.now() + timedelta(seconds=30))
        unknown = leases_renew(
            node=other, reports=[LeaseReport(lease_id=uuid.uuid4(), stage=Stage.RUNNING, elapsed_seconds=0)], now=timezone.now()
        )
        assert answer.renewals == []
        # A lease of somebody else and one that never was look the same.
        assert [(one.kind, one.reason) for one in answer.commands] == [(one.kind, one.reason) for one in unknown.commands]
        assert Replica.objects.get(pk=replica.pk).lease_expires_at == replica.lease_expires_at

    def test_a_cancelled_job_tells_its_host_to_stop_with_the_reason(self) -> None:
        job = queued_job()
        replica = take()
        job.refresh_from_db()
        job_fail(job=job, code="test", message="not wanted any more")
        [command] = renew(replica).commands
        assert (command.kind, command.lease_id, command.reason) == (CommandKind.CANCEL, replica.lease_id, "not wanted any more")

    def test_an_expired_lease_is_not_revived_and_goes_on_while_its_job_is_open(self) -> None:
        job = queued_job()
        replica = take()
        leases_reap(now=silence(replica))
        answer = renew(replica)
        assert (answer.renewals, answer.commands) == ([], [])
        job.refresh_from_db()
        job_fail(job=job, code="test", message="over")
        assert [one.kind for one in renew(replica).commands] == [CommandKind.CANCEL]

    def test_no_renewal_goes_beyond_the_deadline_by_more_than_a_lease(self) -> None:
        queued_job()
        replica = take()
        assert replica.deadline_at is not None
        [renewal] = renew(replica, now=replica.deadline_at + timedelta(hours=1)).renewals
        assert renewal.expires_at == replica.deadline_at + timedelta(seconds=60)


class TestReaper:
    def test_an_expired_lease_makes_a_substitute_that_the_same_owner_may_take(self) -> None:
        job = queued_job()
        replica = take()
        assert leases_reap(now=timezone.now()) == 0
        assert leases_reap(now=silence(replica)) == 1
        assert leases_reap(now=silence(replica)) == 0
        replica.refresh_from_db()
        job.refresh_from_db()
        assert (replica.state, job.state) == (ReplicaState.EXPIRED, JobState.QUEUED)
        assert job.replicas.filter(state=ReplicaState.QUEUED).count() == 1
        assert take(node_of(replica)).pk != replica.pk

    def test_attempts_end_and_the_job_with_them(self, settings: Any) -> None:
        settings.NEXA_ATTEMPTS_MAX = 2
        job = queued_job()
        for _ in range(2):
            leases_reap(now=silence(take()))
        job.refresh_from_db()
        assert (job.state, job.failure_code) == (JobState.FAILED, "attempts_exhausted")
        assert not job.replicas.filter(state=ReplicaState.QUEUED).exists()

    def test_one_owner_cannot_use_up_a_jobs_attempts(self) -> None:
        """Whoever takes leases and falls silent, or fails at once on one node after another, leaves the job to others."""
        job = queued_job()
        owner = user_make()
        silent = node_make(owner, name="silent")[0]
        for _ in range(2):
            leases_reap(now=silence(take(silent)))
        replica_transition(replica=take(node_make(owner, name="other")[0]), to=ReplicaState.FAILED, failure_code="host_error")
        job.refresh_from_db()
        replica_substitute(job=job)
        for node in (silent, node_make(owner, name="third")[0]):
            assert leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=timezone.now()) == []
        assert take().job_id == job.pk

    def test_many_leases_expire_together_in_as_many_statements_as_few(self, django_assert_max_num_queries: Any) -> None:
        for count in (1, 12):
            for _ in range(count):
                queued_job()
            taken = [take() for _ in range(count)]
            now = silence(taken[-1])
            with django_assert_max_num_queries(17):
                assert leases_reap(now=now) == count
            jobs = Job.objects.filter(pk__in=[replica.job_id for replica in taken])
            assert {job.state for job in jobs} == {JobState.QUEUED}
            substitutes = Replica.objects.filter(job__in=jobs, state=ReplicaState.QUEUED)
            assert {(one.cpus, one.kind_id, one.tier) for one in substitutes} == {(one.cpus, one.kind_id, one.tier) for one in taken}
            assert len({one.job_id for one in substitutes}) == len(substitutes) == count
            assert Replica.objects.filter(pk__in=[one.pk for one in taken], state=ReplicaState.EXPIRED).count() == count
            Job.objects.all().update(state=JobState.CANCELLED)
            Replica.objects.filter(state=ReplicaState.QUEUED).update(state=ReplicaState.CANCELLED)

    def test_two_leases_of_one_job_expire_together_and_each_has_its_substitute(self) -> None:
        job = queued_job(copies=2)
        taken = [take(), take()]
        assert leases_reap(now=silence(taken[1])) == 2
        assert sorted(job.replicas.values_list("state", flat=True)) == ["expired", "expired", "queued", "queued"]
        job.refresh_from_db()
        assert job.state == JobState.QUEUED

    def test_a_job_that_cannot_be_ended_keeps_no_other_from_its_end(self, settings: Any, caplog: Any) -> None:
        broken = queued_job(reserved_micro=5)  # which nobody has reserved
        replica = take()
        other, third = queued_job(), queued_job(copies=2)
        taken = [take(), take()]
        settings.NEXA_ATTEMPTS_MAX = 1
        assert {one.job_id for one in taken} == {other.pk, third.pk}
        assert leases_reap(now=silence(taken[1])) == 2
        assert "could not be expired" in caplog.text
        replica.refresh_from_db()
        assert replica.state == ReplicaState.LEASED
        assert [Job.objects.get(pk=job.pk).state for job in (broken, other, third)] == [JobState.RUNNING, JobState.FAILED, JobState.FAILED]

    def test_past_its_deadline_a_lease_expires_whatever_the_clock_says(self) -> None:
        queued_job()
        replica = take()
        CoordinatorClock.objects.update_or_create(pk=1, defaults={"alive_at": timezone.now()})
        assert replica.deadline_at is not None
        assert leases_reap(now=replica.deadline_at + timedelta(seconds=59)) == 0
        assert leases_reap(now=replica.deadline_at + timedelta(seconds=61)) == 1


class TestOutage:
    def test_nothing_expires_while_the_portal_is_silent_and_its_return_is_credited(self) -> None:
        queued_job()
        start = timezone.now()
        replica = take(now=start)
        portal_alive_record(now=start)
        back = start + timedelta(minutes=10)
        assert leases_reap(now=back) == 0
        assert portal_alive_record(now=back) == timedelta(minutes=10)
        replica.refresh_from_db()
        assert replica.lease_expires_at == start + timedelta(minutes=10, seconds=60)
        assert leases_reap(now=back + timedelta(seconds=10)) == 0
        portal_alive_record(now=back + timedelta(seconds=25))
        portal_alive_record(now=back + timedelta(seconds=50))
        assert leases_reap(now=back + timedelta(seconds=61)) == 1

    def test_a_lease_that_was_about_to_expire_has_a_whole_one_from_the_return(self) -> None:
        queued_job()
        start = timezone.now()
        replica = take(now=start)
        portal_alive_record(now=start + timedelta(seconds=59))
        back = start + timedelta(minutes=10)
        portal_alive_record(now=back)
        replica.refresh_from_db()
        assert replica.lease_expires_at == back + timedelta(seconds=60)

    def test_a_short_silence_credits_nothing(self) -> None:
        queued_job()
        start = timezone.now()
        replica = take(now=start)
        assert portal_alive_record(now=start) == timedelta(0)
        assert portal_alive_record(now=start + timedelta(seconds=29)) == timedelta(0)
        assert portal_alive_record(now=start) == timedelta(0)
        assert CoordinatorClock.objects.get().alive_at == start + timedelta(seconds=29)
        assert Replica.objects.get(pk=replica.pk).lease_expires_at == replica.lease_expires_at

    def test_without_a_record_leases_expire_by_the_time(self) -> None:
        now = timezone.now()
        assert expiry_horizon(now=now) == now

    def test_one_process_records_rarely(self) -> None:
        alive, now = PortalAlive(), timezone.now()
        alive.record(now=now)
        alive.record(now=now + timedelta(seconds=1))
        assert CoordinatorClock.objects.get().alive_at == now


class TestQueueDeadline:
    def test_a_job_that_nobody_takes_fails_and_its_reservation_comes_back(self) -> None:
        owner = researcher_make()
        account = account_of(user=owner)
        grant_post(to=account, amount_micro=5_000_000, reason="test", idempotency_key=f"test:{account.pk}")
        job = queued_job(owner, reserved_micro=2_000_000)
        entry_post(reservation_of(account=account, job_id=job.pk, amount_micro=2_000_000))
        assert queue_deadlines_enforce(now=timezone.now()) == 0
        assert queue_deadlines_enforce(now=job.queue_deadline_at + timedelta(seconds=1)) == 1
        assert queue_deadlines_enforce(now=job.queue_deadline_at + timedelta(seconds=1)) == 0
        job.refresh_from_db()
        account.refresh_from_db()
        assert (job.state, job.failure_code) == (JobState.FAILED, "no_eligible_host")
        assert "1 core," in job.failure_message
        assert account.balance_micro == 5_000_000
        assert [one.state for one in job.replicas.all()] == [ReplicaState.CANCELLED]

    def test_a_substitute_waits_as_long_as_the_first(self) -> None:
        now = timezone.now()
        job = queued_job(queue_deadline_at=now + timedelta(seconds=30))
        leases_reap(now=silence(take(now=now)))
        substitute = job.replicas.get(state=ReplicaState.QUEUED)
        Replica.objects.filter(pk=substitute.pk).update(created_at=now + timedelta(seconds=100))
        CoordinatorClock.objects.update(alive_at=now + timedelta(seconds=131))
        assert queue_deadlines_enforce(now=now + timedelta(seconds=110)) == 0
        assert queue_deadlines_enforce(now=now + timedelta(seconds=131)) == 1

    def test_a_job_that_cannot_be_ended_keeps_no_other_from_it(self, caplog: Any) -> None:
        now = timezone.now()
        broken = queued_job(queue_deadline_at=now + timedelta(seconds=1), reserved_micro=5)  # which nobody has reserved
        other = queued_job(queue_deadline_at=now + timedelta(seconds=2))
        assert queue_deadlines_enforce(now=now + timedelta(seconds=10)) == 1
        assert "could not be ended" in caplog.text
        assert [Job.objects.get(pk=job.pk).state for job in (broken, other)] == [JobState.QUEUED, JobState.FAILED]

    def test_many_jobs_that_cannot_be_ended_keep_no_other_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "DEADLINES_MAX", 2)
        now = timezone.now()
        at = [now + timedelta(seconds=second) for second in (1, 1, 1, 2, 3)]
        stuck = [queued_job(queue_deadline_at=deadline_at, reserved_micro=5) for deadline_at in at]  # which nobody has reserved
        others = [queued_job(queue_deadline_at=now + timedelta(seconds=second)) for second in (4, 5, 6, 7)]
        assert queue_deadlines_enforce(now=now + timedelta(seconds=10)) == 3
        assert queue_deadlines_enforce(now=now + timedelta(seconds=10)) == 1
        assert {Job.objects.get(pk=job.pk).state for job in stuck} == {JobState.QUEUED}
        assert {Job.objects.get(pk=job.pk).state for job in others} == {JobState.FAILED}

    def test_no_job_is_ended_while_the_portal_is_away_nor_before_hosts_are_back(self) -> None:
        start = timezone.now()
        queued_job(queue_deadline_at=start + timedelta(hours=1))
        portal_alive_record(now=start)
        back = start + timedelta(hours=2)
        assert queue_deadlines_enforce(now=back) == 0
        portal_alive_record(now=back)
        assert queue_deadlines_enforce(now=back) == 0
        ready = back + QUEUE_PATIENCE
        CoordinatorClock.objects.update(alive_at=ready)
        assert queue_deadlines_enforce(now=ready - timedelta(seconds=1)) == 0
        assert queue_deadlines_enforce(now=ready) == 1

    def test_no_job_is_ended_while_its_image_is_closed_nor_just_afterwards(self) -> None:
        now = timezone.now()
        late = now + timedelta(seconds=10)
        closed = queued_job(queue_deadline_at=now + timedelta(seconds=1))
        other = queued_job(queue_deadline_at=now + timedelta(seconds=2), job_type="other")
        until = now + timedelta(hours=1)
        JobKind.objects.filter(pk=closed.replicas.get().kind_id).update(closed_until=until)
        assert queue_deadlines_enforce(now=late) == 1
        assert [Job.objects.get(pk=job.pk).state for job in (closed, other)] == [JobState.QUEUED, JobState.FAILED]
        assert queue_deadlines_enforce(now=until + QUEUE_PATIENCE - timedelta(seconds=1)) == 0
        assert queue_deadlines_enforce(now=until + QUEUE_PATIENCE) == 1

    def test_late_jobs_are_found_by_the_index_of_deadlines(self) -> None:
        now = timezone.now()
        job = queued_job(queue_deadline_at=now + timedelta(seconds=1))
        own = {"id", "label", "queue_deadline_at"}
        copied = [field.column for field in Job._meta.concrete_fields if field.name not in own and not field.generated]
        columns = ", ".join(f'"{column}"' for column in copied)
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO jobs_job (id, label, queue_deadline_at, {columns})"  # noqa: S608  # names of columns
                f" SELECT gen_random_uuid(), 'many-' || n, queue_deadline_at + make_interval(hours => n), {columns}"
                " FROM jobs_job, generate_series(1, 5000) n WHERE id = %s",
                [job.pk],
            )
            cursor.execute("ANALYZE jobs_job")
        with CaptureQueriesContext(connection) as captured:
            assert queue_deadlines_enforce(now=now + timedelta(seconds=10)) == 1
        [search] = [
            query["sql"] for query in captured.captured_queries if "ORDER BY" in query["sql"] and "queue_deadline_at" in query["sql"]
        ]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {search}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "job_queued_deadline" in plan, plan
        assert "Seq Scan on jobs_job " not in plan, plan

    def test_a_running_job_has_no_queue_deadline(self) -> None:
        job = queued_job(queue_deadline_at=timezone.now() + timedelta(seconds=1))
        take()
        assert queue_deadlines_enforce(now=timezone.now() + timedelta(days=1)) == 0
        assert Job.objects.get(pk=job.pk).state == JobState.RUNNING


def test_a_node_is_written_only_when_there_is_news(django_assert_num_queries: Any) -> None:
    node, _ = node_make(user_make())
    now = timezone.now()
    reason = NoWork(code="no_jobs_queued", message="none")
    node_heard(node=node, no_work=reason, now=now)
    node.refresh_from_db()
    assert (node.last_seen_at, node.last_no_work) == (now, {"code": "no_jobs_queued", "message": "none"})
    with django_assert_num_queries(0):
        node_heard(node=node, no_work=reason, now=now + timedelta(seconds=5))
    node_heard(node=node, no_work=None, now=now + timedelta(seconds=11))
    node.refresh_from_db()
    assert node.last_seen_at == now + timedelta(seconds=11)


def test_a_lease_reported_meanwhile_is_not_expired() -> None:
    queued_job()
    replica = take()
    now = silence(replica)
    replica_transition(replica=replica, to=ReplicaState.REPORTED)
    assert leases_reap(now=now) == 0


class TestSpot:
    def test_the_first_lease_of_a_spot_job_draws_and_no_later_one(self) -> None:
        now = timezone.now()
        key = SpotKey.objects.create(secret=bytes(32), made_at=now, published_at=now, ends_at=now + timedelta(hours=1))
        jobs = [queued_job(policy="spot", spot_share=1.0), queued_job(), queued_job(policy="spot", spot_share=1e-9)]
        node, _ = node_make(user_make())
        free = FREE.model_copy(update={"slots": 3})
        assert len(leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=free, wishes=Wishes(), now=now)) == 3
        for job in jobs:
            job.refresh_from_db()
        assert [(job.spot_key_id, job.spot_chosen, job.copies) for job in jobs] == [(key.pk, True, 2), (None, None, 1), (key.pk, False, 1)]
        SpotKey.objects.create(secret=bytes(31) + b"1", made_at=now, published_at=now, ends_at=now + timedelta(seconds=30))
        leases_reap(now=silence(jobs[0].replicas.get()))
        assert take(node_make(user_make())[0]).job_id == jobs[0].pk
        jobs[0].refresh_from_db()
        assert jobs[0].spot_key_id == key.pk

    def test_an_exchange_that_loses_its_claim_draws_nothing(self) -> None:
        """The draw is made in the transaction that takes the lease, of a node that may still take one."""
        job = queued_job(policy="spot", spot_share=1.0)
        node, _ = node_make(user_make())
        stale = Node.objects.get(pk=node.pk)
        Node.objects.filter(pk=node.pk).update(state=NodeState.PAUSED)
        assert leases_claim(node=stale, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=timezone.now()) == []
        job.refresh_from_db()
        assert (job.spot_chosen, job.copies) == (None, 1)


class TestAnswerSize:
    def test_orders_that_would_make_an_answer_too_long_to_be_read_stay_queued(self) -> None:
        environment = {f"NAME_{number}": "x" * 8192 for number in range(230)}
        for _ in range(5):
            queued_job(descriptor={"environment": environment})
        node, _ = node_make(user_make())
        free = FREE.model_copy(update={"slots": 5})
        counts = []
        for _ in range(2):
            taken = leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=free, wishes=Wishes(), now=timezone.now())
            assert sum(len(bytes(one.order_envelope or b"")) for one in taken) <= ORDERS_BYTES_MAX
            counts.append(len(taken))
        assert counts == [3, 2]

    def test_a_host_reads_twice_what_the_orders_of_an_answer_may_have(self) -> None:
        assert ANSWER_LIMIT_BYTES >= 2 * ORDERS_BYTES_MAX
