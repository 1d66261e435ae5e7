"""A renewal locks all replicas that a host reports, in the order of their ids. Whoever locks several of them takes the same order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from jobs.models import CoordinatorClock, Job, Replica
from jobs.services.leases import leases_reap
from jobs.services.outages import portal_alive_record
from jobs.services.settlement import jobs_settle
from jobs.states import JobState, ReplicaState
from nodes.models import Node
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease, replica_report

LIMIT_SECONDS = 30.0
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


def waits_without(act: Callable[[], object], held: Replica, free: Replica) -> None:
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
    lock = "SELECT 1 FROM jobs_replica WHERE id = %s FOR NO KEY UPDATE NOWAIT"
    with psycopg.connect(**parameters) as holder:
        holder.execute(lock, [held.pk])
        thread.start()
        _lock_waited_for(parameters)
        try:
            holder.execute(lock, [free.pk])
        except psycopg.errors.LockNotAvailable:
            pytest.fail("the larger id is locked before the smaller: a renewal that has the smaller would wait for it, and be waited for")
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
