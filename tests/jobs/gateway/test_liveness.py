"""The web process says that it serves: silence is then the host's; an outage of the web is everybody's and is credited."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from jobs.gateway.liveness import Liveness
from jobs.models import CoordinatorClock, Replica
from jobs.services.leases import leases_reap
from jobs.states import ReplicaState
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost

pytestmark = pytest.mark.usefixtures("own_database")


@pytest.fixture
def liveness() -> Iterator[Liveness]:
    running = Liveness(period_seconds=0.05)
    running.start()
    yield running
    running.stop()
    assert not running.is_running


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)


def alive_at() -> datetime | None:
    return CoordinatorClock.objects.values_list("alive_at", flat=True).first()


def is_recorded_after(moment: datetime) -> bool:
    found = alive_at()
    return found is not None and found > moment


def test_a_silent_host_loses_its_lease_while_the_web_lives(own_database: str, settings: Any, liveness: Liveness) -> None:
    settings.NEXA_LEASE_SECONDS = 1
    job = queued_job()
    SimulatedHost().order()
    started = time.monotonic()
    wait_for(lambda: leases_reap(now=timezone.now()) == 1)
    assert 0.5 < time.monotonic() - started < 4
    assert job.replicas.filter(state=ReplicaState.QUEUED).count() == 1


def test_an_outage_of_the_web_is_credited_to_each_lease(own_database: str, settings: Any) -> None:
    queued_job()
    SimulatedHost().order()
    outage = timedelta(seconds=300)
    CoordinatorClock.objects.update_or_create(pk=1, defaults={"alive_at": timezone.now() - outage})
    before = Replica.objects.get().lease_expires_at
    assert before is not None
    assert leases_reap(now=before + timedelta(seconds=1)) == 0
    running = Liveness(period_seconds=0.05)
    running.start()
    try:
        wait_for(lambda: is_recorded_after(timezone.now() - timedelta(seconds=5)))
    finally:
        running.stop()
    after = Replica.objects.get().lease_expires_at
    assert after is not None
    assert outage <= after - before < outage + timedelta(seconds=10)


def test_lost_connections_to_postgresql_do_not_end_it(own_database: str, liveness: Liveness) -> None:
    wait_for(lambda: alive_at() is not None)
    for _ in range(5):
        with connection.cursor() as cursor:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            cursor.execute(others, [own_database])
    moment = timezone.now()
    wait_for(lambda: is_recorded_after(moment))
    assert liveness.is_running


def test_a_database_that_refuses_is_tried_again(own_database: str, liveness: Liveness, caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_coordinatorclock RENAME TO hidden")
        wait_for(lambda: "not recorded that the portal serves" in caplog.text)
        cursor.execute("ALTER TABLE hidden RENAME TO jobs_coordinatorclock")
    moment = timezone.now()
    wait_for(lambda: is_recorded_after(moment))


def test_redis_away_changes_nothing(own_database: str, settings: Any, liveness: Liveness) -> None:
    settings.NEXA_REDIS_URL = settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    moment = timezone.now()
    wait_for(lambda: is_recorded_after(moment))
