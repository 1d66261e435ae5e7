"""The live dashboard: its figures are the database's, and nothing on it tells a replicated job from another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.live import figures, views
from jobs.models import Job
from jobs.services.closing import job_fail
from jobs.services.settlement import job_settle
from nodes.models import Node, NodeState
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease, replica_report

pytestmark = pytest.mark.django_db
TWICE = {"method": "exact", "copies": 2, "quorum": 2}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """What another test's database showed is not this one's."""
    views.fragment.forget()
    views.history.forget()
    yield
    views.fragment.forget()
    views.history.forget()


def shown(path: str = "/live/fragment/") -> str:
    return Client().get(path).content.decode()


def completed(**fields: Any) -> Job:
    job = job_make(verification=TWICE, **fields)
    for _ in range(2):
        replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    return job


def test_an_empty_portal_says_what_to_do() -> None:
    text = shown("/live/")
    assert "Nothing has happened yet." in text
    assert "No node has joined this tier." in text
    assert "No concluded job or run of one failed." in text


def test_every_viewer_gets_the_same_and_no_names() -> None:
    job = completed(job_id="secret-target", title="secret title", type="docking")
    text = shown()
    assert "2 of 2 replicas agree, exactly." in text
    assert "docking" in text
    for private in ("secret-target", "secret title", str(job.pk), job.owner.username):
        assert private not in text
    owner = Client()
    owner.force_login(job.owner, backend="django.contrib.auth.backends.ModelBackend")
    assert owner.get("/live/fragment/").content.decode() == text


def test_nodes_are_counted_by_tier_and_state() -> None:
    now = timezone.now()
    for name, state, seen in (
        ("a", NodeState.ACTIVE, now),
        ("b", NodeState.PAUSED, now),
        ("c", NodeState.QUARANTINED, None),
        ("d", NodeState.ACTIVE, now - timedelta(hours=1)),
        ("e", NodeState.REVOKED, now),
    ):
        node, _ = node_make(user_make(), name=name, tier="cpu", last_seen_at=seen)
        Node.objects.filter(pk=node.pk).update(state=state)
    cpu = figures.tiers_now()[0]
    assert (cpu.online, cpu.paused, cpu.quarantined, cpu.silent, cpu.registered) == (1, 1, 1, 1, 4)
    assert 'aria-label="1 online, 1 paused, 1 quarantined, 1 silent"' in shown()


def test_queue_depth_is_counted_back_from_now() -> None:
    now = timezone.now()
    jobs = [job_make() for _ in range(3)]
    replica_lease(jobs[0])
    for job, minutes in zip(jobs, (50, 30, 10), strict=True):
        Job.objects.filter(pk=job.pk).update(submitted_at=now - timedelta(minutes=minutes))
    hour = figures.history(now=now + timedelta(seconds=1))
    cpu = figures.tiers_now()[0]
    assert cpu.waiting == 2
    depths = {round((now - at).total_seconds() / 60): value for at, value in hour.depths_of(cpu)}
    assert [depths[minutes] for minutes in (55, 45, 25, 5, 0)] == [0, 1, 2, 3, 2]
    wait = hour.waits["cpu"]
    assert wait.count == 1
    assert wait.p50 == pytest.approx(50 * 60, abs=60)


def test_a_job_that_ends_untaken_leaves_the_queue() -> None:
    job_fail(job=job_make(), code="no_eligible_host", message="No host took it.")
    hour = figures.history(now=timezone.now() + timedelta(seconds=1))
    cpu = figures.tiers_now()[0]
    assert cpu.waiting == 0
    assert {value for _, value in hour.depths_of(cpu)} == {0.0}
    assert hour.waits == {}


def test_conclusions_reasons_and_delays_are_of_concluded_jobs() -> None:
    completed()
    job_fail(job=job_make(), code="no_eligible_host", message="No host took it.")
    replica_report(job_make(verification=TWICE))
    hour = figures.history(now=timezone.now() + timedelta(seconds=1))
    assert (hour.completed_count, hour.ended_without_count) == (1, 1)
    assert hour.reasons == [figures.Reason("no_eligible_host", 1, 0)]
    assert hour.delays.count == 1
    assert hour.delays.p50 is not None
    assert 0 < hour.delays.p50 < 60
    assert "no_eligible_host" in shown()


def _happening(job: Job) -> tuple[Any, ...]:
    found = next(one for one in figures.happenings() if one.job_type == job.job_type)
    return found.state, [mark.state for mark in found.custody], found.words


def test_a_replicated_job_looks_like_any_other_until_it_ends() -> None:
    once, twice = job_make(type="once"), job_make(type="twice", verification=TWICE)
    assert _happening(once) == _happening(twice)
    for job in (once, twice):
        replica_lease(job)
    assert _happening(once) == _happening(twice)
    taken = _happening(twice)
    for job in (job_make(type="once-more"), twice):
        replica_report(job)
        job.refresh_from_db()
        assert _happening(job) == taken
    assert not re.search(r"must agree|once \d", shown())


def test_the_page_takes_a_bounded_number_of_statements(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(3):
        completed()
        job_make()
    with django_assert_num_queries(9):
        Client().get("/live/")
    with django_assert_num_queries(0):
        Client().get("/live/fragment/")


def test_strangers_text_is_text() -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(job_type="<b>x</b>")
    assert "<b>x</b>" not in shown()
    assert "&lt;b&gt;x" in shown()
