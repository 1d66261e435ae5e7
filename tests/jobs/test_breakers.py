"""Circuit breakers of images: when one closes, for how long, and what opens it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from jobs import selectors
from jobs.models import ImageBreaker, Job, JobKind, Replica
from jobs.services.breakers import CLOSED_SECONDS_MAX, breaker_consider, breaker_open, breakers_consider, closed_seconds
from jobs.services.failures import replica_failed
from jobs.services.replicas import replicas_queue
from jobs.states import JobState
from people.errors import ActPointlessError
from people.models import User
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, researcher_make, user_make
from tests.factories.receipts import replica_lease
from tests.jobs.gateway.queued_jobs import queued_job
from workers.protocol.messages.receipt import Failure, FailureCode

pytestmark = pytest.mark.django_db

IMAGE = "example/test:1"


def fail(
    code: FailureCode = FailureCode.IMAGE_UNAVAILABLE,
    *,
    owner: User | None = None,
    job: Job | None = None,
    researcher: User | None = None,
    now: datetime | None = None,
) -> Job:
    """A run that a host of `owner` reports as failed. The job stays open: it asks for so many copies that nobody believes it yet."""
    job = job or queued_job(researcher, copies=2)
    replica = replica_lease(job, node_make(owner or user_make())[0])
    with override_settings(NEXA_FAULT_OWNERS=1000):
        replica_failed(replica=replica, job=job, failure=Failure(code=code, message="why"), now=now or timezone.now())
    breakers_consider([(job, code)], now=now or timezone.now())
    return job


def closed_until() -> datetime | None:
    (until,) = set(JobKind.objects.filter(image_name=IMAGE).values_list("closed_until", flat=True))
    return until


def succeed(now: datetime) -> None:
    """An accepted result of the image, at this time."""
    job = queued_job()
    replica = replica_lease(job)
    Replica.objects.filter(pk=replica.pk).update(state="accepted", concluded_at=now)


def test_five_failures_at_three_owners_close_every_kind_of_the_image() -> None:
    queued_job(credit_rate_micro=5)
    other = queued_job(image={"name": "example/other:1", "image_id": "sha256:" + "2" * 64})
    now, owners = timezone.now(), [user_make() for _ in range(3)]
    for number in range(5):
        assert closed_until() is None
        fail(owner=owners[number % 3], now=now)
    assert JobKind.objects.filter(image_name=IMAGE).count() == 2
    assert closed_until() == now + timedelta(seconds=600)
    assert JobKind.objects.get(image_name=other.image["name"]).closed_until is None
    breaker = ImageBreaker.objects.get()
    assert (breaker.image_name, breaker.times, breaker.code) == (IMAGE, 1, "image_unavailable")


def test_its_jobs_stay_queued_and_their_owner_is_told() -> None:
    for _ in range(5):
        job = fail()
    job.refresh_from_db()
    assert job.state == JobState.QUEUED
    assert selectors.image_closed_until(job=job) == closed_until()


def test_a_kind_that_is_new_is_closed_with_its_image() -> None:
    for _ in range(5):
        fail()
    queued_job(credit_rate_micro=7)
    assert closed_until() is not None


def test_failures_of_two_owners_close_nothing() -> None:
    owners = [user_make() for _ in range(2)]
    for number in range(10):
        fail(owner=owners[number % 2])
    assert closed_until() is None


def test_failures_of_one_job_close_nothing() -> None:
    job = queued_job()
    for _ in range(6):
        fail(job=job)
    assert closed_until() is None


def test_failures_spread_over_more_than_the_window_close_nothing() -> None:
    now = timezone.now()
    for number in range(10):
        fail(now=now + timedelta(seconds=200 * number))
    assert closed_until() is None


def test_an_accepted_result_in_between_starts_the_count_again() -> None:
    now = timezone.now()
    for number in range(10):
        if number == 4:
            succeed(now + timedelta(seconds=number))
        fail(now=now + timedelta(seconds=number) + timedelta(milliseconds=1))
        assert (closed_until() is None) == (number < 8)


@pytest.mark.parametrize("code", [FailureCode.HOST_ENGINE, FailureCode.HOST_DISK, FailureCode.CANCELLED])
def test_faults_of_hosts_and_of_the_portal_close_nothing(code: FailureCode) -> None:
    for _ in range(8):
        fail(code)
    assert closed_until() is None


def test_one_researchers_programs_close_no_image_and_two_researchers_do() -> None:
    one, other = researcher_make(), researcher_make()
    for _ in range(8):
        fail(FailureCode.EXIT_NONZERO, researcher=one)
    assert closed_until() is None
    fail(FailureCode.EXIT_NONZERO, researcher=other)
    assert closed_until() is not None


def test_what_was_out_when_it_was_closed_does_not_prolong_it() -> None:
    now = timezone.now()
    for _ in range(5):
        fail(now=now)
    until = closed_until()
    fail(now=now + timedelta(seconds=30))
    assert closed_until() == until


def closed() -> datetime:
    """Closes the image, and returns till when."""
    now = timezone.now()
    for _ in range(5):
        fail(now=now)
    until = closed_until()
    assert until is not None
    return until


def test_after_its_time_failures_at_two_owners_close_it_for_twice_as_long_and_so_on() -> None:
    until = closed()
    for seconds in (1200, 2400, 4800):
        fail(now=until + timedelta(seconds=1))
        assert closed_until() == until, "one host may lie"
        fail(now=until + timedelta(seconds=2))
        assert closed_until() == until + timedelta(seconds=2 + seconds)
        until += timedelta(seconds=2 + seconds)
    assert ImageBreaker.objects.get().times == 4


def test_after_its_time_one_host_or_one_researcher_closes_nothing() -> None:
    until = closed()
    liar, researcher = user_make(), researcher_make()
    for number in range(4):
        fail(owner=liar, now=until + timedelta(seconds=1 + number))
    assert closed_until() == until
    ImageBreaker.objects.update(closed_until=until + timedelta(seconds=10))
    for number in range(4):
        fail(FailureCode.EXIT_NONZERO, researcher=researcher, now=until + timedelta(seconds=20 + number))
    assert closed_until() == until
    fail(FailureCode.EXIT_NONZERO, now=until + timedelta(seconds=30))
    assert closed_until() == until + timedelta(seconds=30 + 1200), "another researcher's too"


def test_after_its_time_one_success_makes_it_as_new() -> None:
    now = timezone.now()
    for _ in range(5):
        fail(now=now)
    until = closed_until()
    assert until is not None
    succeed(until + timedelta(seconds=1))
    for number in range(4):
        fail(now=until + timedelta(seconds=2 + number))
        assert closed_until() == until
    now = until + timedelta(seconds=10)
    fail(now=now)
    assert closed_until() == now + timedelta(seconds=600)


def test_it_is_never_closed_for_more_than_a_day() -> None:
    assert [closed_seconds(times=times) for times in (1, 2, 3)] == [600, 1200, 2400]
    assert closed_seconds(times=9) == closed_seconds(times=30_000) == CLOSED_SECONDS_MAX == 86_400


def test_a_moderator_opens_it() -> None:
    for _ in range(5):
        fail()
    breaker_open(image_name=IMAGE, by=moderator_make(), reason="The registry is back.")
    until = closed_until()
    assert until is not None
    assert until <= timezone.now(), "from then on, not for ever, its jobs wait for hosts whatever their deadline"
    assert not ImageBreaker.objects.exists()
    with pytest.raises(ActPointlessError):
        breaker_open(image_name=IMAGE, by=moderator_make(), reason="The registry is back.")


def test_a_failure_that_says_nothing_about_the_image_costs_no_statement(django_assert_num_queries: pytest.FixtureRequest) -> None:
    job = queued_job()
    with django_assert_num_queries(0):  # type: ignore[operator]  # pytest-django's fixture is a function
        assert breaker_consider(job=job, code=FailureCode.HOST_ERROR, now=timezone.now()) is None
    replicas_queue(job=job, count=1)
