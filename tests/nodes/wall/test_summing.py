"""The wall's sums: what was paid, counted once, in periods that days leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db.models import Count, Sum
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.services.settlement import job_settle
from ledger.models import EntryKind, Posting
from ledger.selectors import totals
from ledger.services import reversal_post
from nodes.models import Standing, TeamStanding, WallTotal, Workday
from nodes.wall.recording import JudgedWork, work_record
from nodes.wall.selectors import WallRow, people_ranked, sciences_seen, standing_of, teams_ranked, wall_totals, workdays_of
from nodes.wall.summing import standings_sum
from people.models import TeamMember, User
from people.team_services import team_create, team_leave
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_report
from workers.protocol.keys import PrivateKey

pytestmark = pytest.mark.django_db

TODAY = date(2026, 6, 30)
FILES = {"summary.json": b'{"energy": 1.0}'}


def worked(owner: User, *, days_ago: int = 0, science: str = "folding", work: int = 10, accepted: bool = True) -> None:
    at = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=days_ago)
    paid = work * 2
    work_record([JudgedWork(owner.pk, science, accepted, work if accepted else 0, paid if accepted else 0)], at=at)


def sums(owner: User) -> dict[tuple[int, str], int]:
    return {(one.period_days, one.science): one.work_micro for one in Standing.objects.filter(owner=owner)}


def test_payments_of_settled_jobs_and_the_wall_have_one_sum() -> None:
    researcher = funded_researcher_make()
    nodes = [(node, key) for key in (PrivateKey.generate() for _ in range(3)) for node, _ in [node_make(user_make(), key)]]
    for number in range(3):
        job = job_make(
            researcher,
            type=("folding", "climate")[number % 2],
            verification={"method": "numeric", "copies": 2, "quorum": 2},
            tolerance=1e-5,
        )
        for node, key in (nodes[number], nodes[(number + 1) % 3]):
            replica_report(job, FILES if number < 2 else {"summary.json": node.key_id.encode()}, node=node, key=key)
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
        job_settle(job_id=job.pk)
    standings_sum(today=datetime.now(UTC).date())
    paid = Posting.objects.filter(entry__kind=EntryKind.PAYMENT, amount_micro__gt=0).aggregate(paid=Sum("amount_micro"))["paid"]
    assert paid == totals()["paid_micro"] > 0
    assert Workday.objects.aggregate(paid=Sum("paid_micro"))["paid"] == paid
    for period_days in (0, 7, 30):
        assert wall_totals(period_days=period_days, science="").paid_micro == paid
    assert sum(wall_totals(period_days=0, science=science).paid_micro for science in sciences_seen()) == paid
    by_account = {UUID(row.account_id): row.paid_micro for row in people_ranked(period_days=0, science="", first=1, limit=10)}
    for account_id, found in by_account.items():
        postings = Posting.objects.filter(account=account_id, entry__kind=EntryKind.PAYMENT)
        assert postings.aggregate(paid=Sum("amount_micro"))["paid"] == found


def test_a_reversed_payment_is_on_the_wall_no_more() -> None:
    researcher, nodes = funded_researcher_make(), []
    for _ in range(2):
        key = PrivateKey.generate()
        nodes.append((node_make(user_make(), key)[0], key))
    jobs = [job_make(researcher, verification={"method": "numeric", "copies": 2, "quorum": 2}, tolerance=1e-5) for _ in range(2)]
    for job in jobs:
        for node, key in nodes:
            replica_report(job, FILES, node=node, key=key)
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
    today = datetime.now(UTC).date()
    standings_sum(today=today)
    cheat, honest = nodes[0][0].owner, nodes[1][0].owner
    before, beside = rank_of(cheat), rank_of(honest)
    payments = Posting.objects.filter(account__owner=cheat, entry__kind=EntryKind.PAYMENT, amount_micro__gt=0).order_by("pk")
    entries = [posting.entry for posting in payments]
    for _ in range(2):  # the same reversal again changes nothing
        reversal_post(entry=entries[0], reason="the host made it up")
    standings_sum(today=today)
    after = rank_of(cheat)
    assert (after.accepted, after.work_micro, after.paid_micro) == (1, before.work_micro // 2, before.paid_micro - payments[0].amount_micro)
    assert (after.paid_micro, rank_of(honest)) == (payments[1].amount_micro, replace(beside, rank=1))
    assert totals_follow()
    reversal_post(entry=entries[1], reason="this one too")
    standings_sum(today=today)
    assert standing_of(owner=cheat) is None
    assert not Standing.objects.filter(owner=cheat).exists()
    assert Workday.objects.aggregate(paid=Sum("paid_micro"))["paid"] == rank_of(honest).paid_micro == beside.paid_micro
    assert totals_follow()


def totals_follow() -> bool:
    """Whether the totals are the sums of the standings."""
    kept = {(one.period_days, one.science): (one.contributors, one.work_micro) for one in WallTotal.objects.filter(contributors__gt=0)}
    summed = Standing.objects.filter(work_micro__gt=0).values("period_days", "science").annotate(people=Count("pk"), work=Sum("work_micro"))
    return kept == {(one["period_days"], one["science"]): (one["people"], one["work"]) for one in summed}


def test_a_receipt_that_was_rejected_earns_nothing_and_lowers_accuracy() -> None:
    owner = user_make()
    for _ in range(3):
        worked(owner)
    worked(owner, accepted=False)
    standings_sum(today=TODAY)
    row = standing_of(owner=owner)
    assert row is not None
    assert (row.accepted, row.rejected, row.accuracy, row.work_micro) == (3, 1, 0.75, 30)


def test_days_leave_the_periods_and_stay_in_the_whole() -> None:
    owner = user_make()
    worked(owner, work=1)
    worked(owner, days_ago=6, work=10)
    worked(owner, days_ago=29, work=100)
    worked(owner, days_ago=30, work=1000)
    standings_sum(today=TODAY)
    assert sums(owner) == {(0, ""): 1111, (0, "folding"): 1111, (30, ""): 111, (30, "folding"): 111, (7, ""): 11, (7, "folding"): 11}
    standings_sum(today=TODAY + timedelta(days=1))
    assert (sums(owner)[30, ""], sums(owner)[7, ""]) == (11, 1)
    standings_sum(today=TODAY + timedelta(days=40))
    assert sums(owner) == {(0, ""): 1111, (0, "folding"): 1111}


def test_what_is_not_due_is_not_summed_again() -> None:
    busy, idle = user_make(), user_make()
    worked(busy)
    worked(idle)
    assert standings_sum(today=TODAY) == 2
    before = Standing.objects.get(owner=idle, period_days=0, science="").pk
    assert standings_sum(today=TODAY) == 0
    worked(busy)
    assert standings_sum(today=TODAY) == 1
    assert Standing.objects.get(owner=idle, period_days=0, science="").pk == before
    assert sums(busy)[0, ""] == 20


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.sampled_from("ab"), st.booleans(), st.booleans()), max_size=12))
def test_sums_are_those_of_the_days_however_often_they_are_made(steps: list[tuple[int, int, str, bool, bool]]) -> None:
    owners = [user_make() for _ in range(3)]
    for place, days_ago, science, accepted, is_summed in steps:
        worked(owners[place], days_ago=days_ago, science=science, accepted=accepted)
        if is_summed:
            standings_sum(today=TODAY)
    standings_sum(today=TODAY)
    for place, owner in enumerate(owners):
        mine = [step for step in steps if step[0] == place]
        for period in (0, 30, 7):
            within = [step for step in mine if period == 0 or step[1] < period]
            expected = 10 * sum(step[3] for step in within)
            assert sums(owner).get((period, ""), 0) == expected
            assert sum(sums(owner).get((period, science), 0) for science in "ab") == expected
    assert totals_follow()
    standings_sum(today=TODAY + timedelta(days=15))
    assert totals_follow()


def test_ranks_are_by_work_and_go_on_over_pages() -> None:
    people = [user_make() for _ in range(5)]
    for place, owner in enumerate(people):
        worked(owner, work=100 - 10 * place)
    standings_sum(today=TODAY)
    pages = [people_ranked(period_days=0, science="", first=first, limit=2) for first in (1, 3, 5)]
    assert [(row.rank, row.work_micro) for page in pages for row in page] == [(1, 100), (2, 90), (3, 80), (4, 70), (5, 60)]
    third = standing_of(owner=people[2])
    assert third is not None
    assert third.rank == 3


def test_a_team_has_the_work_of_who_is_in_it_now() -> None:
    lead, member, other = user_make(), user_make(), user_make()
    team = team_create(lead=lead, name="Night shift")
    joined = TeamMember.objects.create(user=member, team=team)
    for owner, days_ago in ((lead, 3), (member, 9), (other, 0)):
        worked(owner, days_ago=days_ago)
    standings_sum(today=TODAY)
    [row] = teams_ranked(period_days=0, science="", first=1, limit=10)
    assert (row.name, row.members, row.work_micro, row.paid_micro, row.since) == ("Night shift", 2, 20, 40, team.created_at.date())
    [week] = teams_ranked(period_days=7, science="folding", first=1, limit=10)
    assert (week.members, week.work_micro) == (1, 10)
    joined.delete()
    standings_sum(today=timezone.now().date())
    [row] = teams_ranked(period_days=0, science="", first=1, limit=10)
    assert (row.members, row.work_micro) == (1, 10)


def test_a_team_that_ended_is_on_the_wall_no_more_and_leaves_no_sums() -> None:
    lead = user_make()
    team_create(lead=lead, name="Night shift")
    worked(lead)
    standings_sum(today=TODAY)
    team_leave(user=lead)
    assert teams_ranked(period_days=0, science="", first=1, limit=10) == []
    standings_sum(today=timezone.now().date())
    assert not TeamStanding.objects.exists()


def team_sums_kept() -> dict[tuple[int, int, str], tuple[int, ...]]:
    kept = TeamStanding.objects.values_list(
        "team_id", "period_days", "science", "members", "accepted", "rejected", "work_micro", "paid_micro"
    )
    return {(team, period, science): tuple(sums) for team, period, science, *sums in kept}


def team_sums_of_members() -> dict[tuple[int, int, str], tuple[int, ...]]:
    """What they are to be: from the standings of who is in which team now."""
    standings = Standing.objects.filter(work_micro__gt=0, owner__membership__isnull=False)
    summed = standings.values_list("owner__membership__team", "period_days", "science").annotate(
        Count("pk"), Sum("accepted"), Sum("rejected"), Sum("work_micro"), Sum("paid_micro")
    )
    return {(team, period, science): tuple(sums) for team, period, science, *sums in summed}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["work", "rejected", "join 0", "join 1", "leave", "sum"]), st.integers(0, 40)),
        max_size=16,
    )
)
def test_sums_of_teams_follow_whoever_comes_goes_and_works(steps: list[tuple[int, str, int]]) -> None:
    today = timezone.now().date()
    owners = [user_make() for _ in range(3)]
    teams = [team_create(lead=user_make(), name=f"{uuid4()}"[:30]) for _ in range(2)]  # leads who stay: a team ends with its last member
    for place, act, days_ago in [*steps, (0, "sum", 0)]:
        match act:
            case "work" | "rejected":
                judged = JudgedWork(owners[place].pk, "ab"[days_ago % 2], act == "work", 10 * (act == "work"), 20 * (act == "work"))
                work_record([judged], at=timezone.now() - timedelta(days=days_ago))
            case "join 0" | "join 1":
                TeamMember.objects.update_or_create(user=owners[place], defaults={"team": teams[int(act[-1])]})
            case "leave":
                TeamMember.objects.filter(user=owners[place]).delete()
            case "sum":
                standings_sum(today=today)
    assert team_sums_kept() == team_sums_of_members()
    standings_sum(today=today + timedelta(days=15))
    assert team_sums_kept() == team_sums_of_members()


def test_equal_work_has_one_order_on_the_wall_and_on_a_persons_page() -> None:
    people = [user_make() for _ in range(3)]
    for owner in people:
        worked(owner)
    standings_sum(today=TODAY)
    assert [row.rank for row in map(rank_of, people)] == [1, 2, 3]


def rank_of(owner: User) -> WallRow:
    row = standing_of(owner=owner)
    assert row is not None
    return row


def test_days_of_a_person_are_summed_over_sciences() -> None:
    owner = user_make()
    worked(owner, science="a")
    worked(owner, science="b")
    worked(owner, days_ago=2, accepted=False)
    worked(owner, days_ago=400)
    assert workdays_of(owner=owner, since=TODAY - timedelta(days=30)) == [(TODAY, 20, 2)]
