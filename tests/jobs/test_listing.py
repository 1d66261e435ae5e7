"""The list of an owner's jobs: filters, searches, pages, and the shown state that they go by."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs import listing
from jobs.evidence import disclosure
from jobs.listing import JobFilter, groups_of, jobs_listed, jobs_of, words_of
from jobs.models import Job
from jobs.selectors import state_shown
from jobs.states import JobState
from people.models import User
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease
from workers.protocol.messages.machine import Tier

pytestmark = pytest.mark.django_db

TWO = {"method": "exact", "copies": 2, "quorum": 2}


def labels(owner: User, limit: int = 50, before: listing.Key | None = None, **wanted: Any) -> list[str]:
    asked = JobFilter(**wanted)
    groups = groups_of(owner=owner, is_archived=asked.is_archived)
    return [job.label for job in jobs_listed(owner=owner, wanted=asked, groups=groups, before=before, limit=limit)]


def sciences() -> User:
    """Jobs of two types on two tiers, in three states; the newest last."""
    owner = funded_researcher_make()
    for number, (science, tier) in enumerate([("folding", 0), ("weather", 0), ("folding", 2), ("weather", 0), ("folding", 0)]):
        job_make(owner, job_id=f"run-{number}", type=science, tier=tier, title=f"Trial {number} of {science}")
    Job.objects.filter(label="run-1").update(state="completed")
    Job.objects.filter(label="run-4").update(state="failed")
    job_make(funded_researcher_make(), job_id="run-9", type="folding")
    return owner


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "4 3 2 1 0"),
        ({"state": JobState.QUEUED}, "3 2 0"),
        ({"job_type": "folding"}, "4 2 0"),
        ({"tier": Tier.GPU_TIER2}, "2"),
        ({"state": JobState.QUEUED, "job_type": "weather", "tier": Tier.CPU}, "3"),
        ({"state": JobState.DISPUTED}, ""),
        ({"job_type": "unheard-of"}, ""),
        ({"words": ("run",)}, "4 3 2 1 0"),
        ({"words": ("trial", "weath")}, "3 1"),
        ({"words": ("weath", "trial")}, ""),
        ({"words": ("run", "3")}, "3"),
        ({"words": ("trial",), "state": JobState.FAILED}, "4"),
        ({"is_archived": True}, ""),
    ],
)
def test_a_filter_leaves_what_is_wanted_newest_first(wanted: dict[str, Any], found: str) -> None:
    assert labels(sciences(), **wanted) == [f"run-{number}" for number in found.split()]


def test_a_filter_means_the_same_where_groups_are_too_many_to_hop_through(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = sciences()
    monkeypatch.setattr(listing, "GROUPS_MAX", 1)
    assert labels(owner, job_type="folding", state=JobState.QUEUED) == ["run-2", "run-0"]


def test_words_beyond_the_newest_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = sciences()
    monkeypatch.setattr(listing, "SEARCHED_FIRST", 1)
    assert labels(owner, words=("folding",)) == ["run-4", "run-2", "run-0"]
    assert labels(owner, words=("folding",), limit=1) == ["run-4"]


def test_since_leaves_out_what_is_older() -> None:
    owner = sciences()
    Job.objects.filter(label="run-0").update(submitted_at=timezone.now() - timedelta(days=3))
    since = timezone.now() - timedelta(days=1)
    assert labels(owner, since=since) == ["run-4", "run-3", "run-2", "run-1"]
    assert labels(owner, since=since, job_type="folding") == ["run-4", "run-2"]
    assert labels(owner, since=since, words=("folding",)) == ["run-4", "run-2"]


@pytest.mark.parametrize("wanted", [{}, {"job_type": "test"}, {"words": ("page",)}])
def test_pages_hold_each_job_once_also_where_many_came_at_the_same_time(wanted: dict[str, Any]) -> None:
    owner = funded_researcher_make()
    for number in range(7):
        job_make(owner, job_id=f"page-{number}", estimated_flops=1e9)
    Job.objects.update(submitted_at=timezone.now())
    found: list[str] = []
    before = None
    while page := labels(owner, limit=3, before=before, **wanted):
        found += page
        last = Job.objects.get(label=page[-1])
        before = (last.submitted_at, last.pk)
    assert sorted(found) == [f"page-{number}" for number in range(7)]
    assert len(found) == 7


def test_groups_are_all_there_are_and_archived_ones_are_apart() -> None:
    owner = sciences()
    Job.objects.filter(label="run-4").update(is_archived=True)
    assert [(group.state, group.job_type, group.tier) for group in groups_of(owner=owner)] == [
        ("completed", "weather", "cpu"),
        ("queued", "folding", "cpu"),
        ("queued", "folding", "gpu-tier2"),
        ("queued", "weather", "cpu"),
    ]
    assert [group.state for group in groups_of(owner=owner, is_archived=True)] == ["failed"]
    assert labels(owner, job_type="folding") == ["run-2", "run-0"]
    assert labels(owner, is_archived=True, job_type="folding") == ["run-4"]
    assert groups_of(owner=user_make()) == []


def test_a_label_finds_its_job_in_the_archive_too() -> None:
    owner = sciences()
    Job.objects.filter(label="run-4").update(is_archived=True)
    assert [job.label for job in jobs_of(owner=owner, label="run-4", limit=5)] == ["run-4"]
    assert jobs_of(owner=owner, label="run-4", state=JobState.QUEUED, limit=5) == []
    assert [job.label for job in jobs_of(owner=owner, limit=2)] == ["run-3", "run-2"]


@pytest.mark.parametrize("wanted", [{}, {"job_type": "folding"}, {"words": ("folding",)}])
def test_a_page_takes_three_statements_at_most(wanted: dict[str, Any], django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    owner = sciences()
    with django_assert_max_num_queries(3):
        labels(owner, **wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chignolin-00", ("chignolin", "00")),
        ("  a & b | !c:* ", ("a", "b", "c")),
        ("", ()),
        ("--- '\\", ()),
        ("Größe_2", ("größe", "2")),
        (" ".join("abcdefghij"), tuple("abcdefgh")),
    ],
)
def test_words_are_letters_and_digits_and_no_operators(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


def test_words_of_any_text_can_be_searched_for() -> None:
    owner = funded_researcher_make()
    job_make(owner, job_id="odd", title="Größe: a.b@c.org/path (x+y), 1e5")
    for text in ("größe", "b", "org path", "y", "1e5", "odd"):
        assert labels(owner, words=words_of(text)) == ["odd"], text


@pytest.mark.parametrize(("policy", "copies"), [("fixed", 1), ("fixed", 2), ("spot", 1), ("spot", 2)])
def test_the_column_says_what_the_rule_book_says(policy: str, copies: int) -> None:
    job = job_make()
    for state, was_taken in itertools.product(JobState, (False, True)):
        Job.objects.filter(pk=job.pk).update(state=state, policy=policy, copies=copies, quorum=copies, was_taken=was_taken)
        job.refresh_from_db()
        veiled = disclosure.is_veiled(state=state, policy=policy, copies=copies)
        expected = disclosure.job_state_shown(state=state, was_taken=was_taken) if veiled else state
        assert (job.shown_state, state_shown(job)) == (expected, expected)


def test_a_job_was_taken_from_its_first_lease_on() -> None:
    job = job_make(verification=TWO)
    assert not job.was_taken
    replica = replica_lease(job)
    job.refresh_from_db()
    assert (job.was_taken, job.shown_state) == (True, "running")
    assert replica.leased_at is not None
