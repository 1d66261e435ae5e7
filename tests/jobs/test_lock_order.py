"""A renewal locks all replicas that a host reports, in the order of their ids. Whoever locks several of them takes the same order.

So it is with accounts, which every movement locks in the order of their ids.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from jobs.models import CoordinatorClock, Job, Replica
from jobs.services.leases import leases_reap
from jobs.services.outages import portal_alive_record
from jobs.services.receipts import Result, receipts_accept
from jobs.services.settlement import jobs_settle
from jobs.services.submission import job_cancel
from jobs.states import JobState, ReplicaState
from ledger.models import Account
from ledger.services import account_of, escrow_account
from nodes.models import Node
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease, replica_report
from tests.jobs.gateway.simulated_host import LOG, SimulatedHost, order_open, submitted_make
from workers.protocol.messages.delivery import SubmittedReceipt

LIMIT_SECONDS = 30.0
ALONE = {"method": "exact", "copies": 1, "quorum": 1}
SPARE = {"method": "exact", "copies": 2, "quorum": 1}


def two_leased(node: Node) -> tuple[Replica, Replica, list[Job]]:
    """Live leases of one node in two jobs: the first was made before the other, and has the larger id."""
    while True:
        jobs = [job_make(verification=SPARE), job_make(verification=SPARE)]
        first, second = (replica_lease(job, node) for job in jobs)
        if first.pk > second.pk:
            for place, one in enumerate((first, second)):
                Replica.objects.filter(pk=one.pk).update(created_at=timezone.now() - timedelta(minutes=5 - place))
            return first, second, jobs


def by_age() -> None:
    """Rows lie in the order in which they were made: where a statement has no order of its own, that is the one in which it reads them."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX by_age ON jobs_replica (created_at)")
        cursor.execute("CLUSTER jobs_replica USING by_age")
        cursor.execute("DROP INDEX by_age")


def waits_without(act: Callable[[], object], held: Replica | Account, free: Replica | Account) -> None:
    """While somebody has `held`, `act` waits for it and hasn't locked `free`. Then it ends."""
    by_age()
    errors: list[BaseException] = []

    def acting() -> None:
        try:
            act()
        except BaseException as error:  # told by the test's own thread
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=acting)
    parameters = {name: connection.get_connection_params()[name] for name in ("dbname", "host", "port", "user")}
    lock = f"SELECT 1 FROM {held._meta.db_table} WHERE id = %s FOR NO KEY UPDATE NOWAIT"  # noqa: S608  a table of our own
    with psycopg.connect(**parameters) as holder:
        holder.execute(lock, [held.pk])
        thread.start()
        _lock_waited_for(parameters)
        try:
            holder.execute(lock, [free.pk])
        except psycopg.errors.LockNotAvailable:
            pytest.fail("the larger id is locked before the smaller: who has the smaller would wait for it, and be waited for")
        finally:
            with suppress(psycopg.Error):
                holder.rollback()
            thread.join(LIMIT_SECONDS)
    assert not errors, errors


def _lock_waited_for(parameters: dict[str, Any]) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(**parameters, autocommit=True) as watcher:
        while watcher.execute(statement).fetchone() == (0,):
            assert time.monotonic() < until, "nobody waits for a lock"


def test_leases_that_are_cancelled_by_the_conclusion_of_several_jobs(own_database: str) -> None:
    first, second, jobs = two_leased(node_make(user_make())[0])
    for job in jobs:
        replica_report(job)
        job_check(job_id=job.pk)
    waits_without(lambda: jobs_settle(job_ids=[job.pk for job in jobs]), held=second, free=first)
    assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("state", flat=True)) == {JobState.COMPLETED}
    assert set(Replica.objects.filter(pk__in=[first.pk, second.pk]).values_list("state", flat=True)) == {ReplicaState.CANCELLED}


def test_leases_that_are_reaped(own_database: str) -> None:
    first, second, _ = two_leased(node_make(user_make())[0])
    now = timezone.now() + timedelta(minutes=5)
    CoordinatorClock.objects.update_or_create(pk=1, defaults={"alive_at": now})
    waits_without(lambda: leases_reap(now=now), held=second, free=first)
    assert set(Replica.objects.filter(pk__in=[first.pk, second.pk]).values_list("state", flat=True)) == {ReplicaState.EXPIRED}


def test_leases_that_an_outage_is_credited_to(own_database: str) -> None:
    first, second, _ = two_leased(node_make(user_make())[0])
    now = timezone.now()
    CoordinatorClock.objects.update_or_create(pk=1, defaults={"alive_at": now - timedelta(hours=1)})
    waits_without(lambda: portal_alive_record(now=now), held=second, free=first)
    until = Replica.objects.filter(pk__in=[first.pk, second.pk]).values_list("lease_expires_at", flat=True)
    assert all(at is not None and at > now + timedelta(minutes=30) for at in until)


def failed_by(host: SimulatedHost, jobs: Sequence[Job]) -> Callable[[], list[Result]]:
    """The host's taking in of one batch, which says of each of the jobs that its program failed."""
    submitted = []
    for job in jobs:
        order = order_open(json.loads(bytes(replica_lease(job, host.node).order_envelope or b"")))
        envelope = host.receipt(order, failure=("exit_nonzero", "It ended with 3."))
        submitted.append(SubmittedReceipt.model_validate(submitted_make(envelope, log=LOG)))

    def accept() -> list[Result]:
        return receipts_accept(node=host.node, submitted=submitted, now=timezone.now())

    return accept


@override_settings(NEXA_FAULT_OWNERS=1)
def test_leases_that_are_cancelled_by_failures_of_several_jobs_in_one_batch(own_database: str) -> None:
    first, second, jobs = two_leased(node_make(user_make())[0])
    waits_without(failed_by(SimulatedHost(), jobs), held=second, free=first)
    assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("state", flat=True)) == {JobState.FAILED}
    assert set(Replica.objects.filter(pk__in=[first.pk, second.pk]).values_list("state", flat=True)) == {ReplicaState.CANCELLED}


@override_settings(NEXA_FAULT_OWNERS=1)
def test_leases_that_are_cancelled_by_the_failure_of_one_job(own_database: str) -> None:
    while True:
        job = job_make(verification={"method": "exact", "copies": 3, "quorum": 2})
        first, second = replica_lease(job), replica_lease(job)
        if first.pk > second.pk:
            break
    waits_without(lambda: job_cancel(job=job), held=second, free=first)
    assert set(Replica.objects.filter(pk__in=[first.pk, second.pk]).values_list("state", flat=True)) == {ReplicaState.CANCELLED}


def test_accounts_that_failures_of_several_jobs_in_one_batch_refund(own_database: str) -> None:
    jobs = sorted((job_make(verification=ALONE), job_make(verification=ALONE)), key=lambda job: account_of(user=job.owner).pk, reverse=True)
    first, second = (account_of(user=job.owner) for job in jobs)
    waits_without(failed_by(SimulatedHost(), jobs), held=second, free=first)
    assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("state", flat=True)) == {JobState.FAILED}
    assert escrow_account().balance_micro == 0
