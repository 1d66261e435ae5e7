"""Reads of the wall. Names of people who chose not to be public don't come out of here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from django.db import connection
from django.db.models import Count, Min, QuerySet, Sum

from ledger.models import Account
from nodes.models import Standing, Workday
from people.models import User

SCIENCES_MAX: Final = 40
PLACE_MAX: Final = 1_000_000
"""The last place that a page begins at: each place before it is passed over in the index."""

_SCIENCES: Final = """
WITH RECURSIVE found (science) AS (
    (SELECT science FROM nodes_standing WHERE period_days = 0 AND science > '' ORDER BY science LIMIT 1)
    UNION ALL
    SELECT (SELECT science FROM nodes_standing WHERE period_days = 0 AND science > found.science ORDER BY science LIMIT 1)
    FROM found WHERE found.science IS NOT NULL
) SELECT science FROM found WHERE science IS NOT NULL LIMIT %s
"""


@dataclass(frozen=True)
class WallRow:
    """A line of the wall. `name` and `team` are empty where the person is not public; `account_id` is what the ledger knows them by."""

    rank: int
    name: str
    team: str
    account_id: str
    members: int
    """Of a team; 1 for a person."""
    accepted: int
    rejected: int
    work_micro: int
    paid_micro: int
    since: date

    @property
    def accuracy(self) -> float | None:
        """Accepted of all judged receipts; None where none was judged."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged else None


@dataclass(frozen=True)
class WallTotals:
    """All of a period and science."""

    contributors: int
    work_micro: int
    paid_micro: int


def people_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """Up to `limit` people from place `first` (1 is the top) by verified work; `science` "" is all of them."""
    standings = list(
        _standings(period_days, science)
        .select_related("owner__membership__team")
        .order_by("-work_micro", "owner")[first - 1 : first - 1 + limit]
    )
    accounts = dict(Account.objects.filter(owner__in=[one.owner_id for one in standings]).values_list("owner_id", "pk"))
    return [
        _row(standing, rank=first + place, account_id=str(accounts.get(standing.owner_id, ""))) for place, standing in enumerate(standings)
    ]


def teams_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """As people_ranked, by team: the work of those who are in it now, public or not. Only teams with work are there."""
    summed = (
        _standings(period_days, science)
        .filter(owner__membership__isnull=False)
        .values("owner__membership__team", "owner__membership__team__name")
        .annotate(
            members=Count("owner"),
            accepted_all=Sum("accepted"),
            rejected_all=Sum("rejected"),
            work_all=Sum("work_micro"),
            paid_all=Sum("paid_micro"),
            first=Min("since"),
        )
        .order_by("-work_all", "owner__membership__team")
    )
    return [
        WallRow(
            rank=first + place,
            name=team["owner__membership__team__name"],
            team="",
            account_id="",
            members=team["members"],
            accepted=team["accepted_all"],
            rejected=team["rejected_all"],
            work_micro=team["work_all"],
            paid_micro=team["paid_all"],
            since=team["first"],
        )
        for place, team in enumerate(summed[first - 1 : first - 1 + limit])
    ]


def wall_totals(*, period_days: int, science: str) -> WallTotals:
    """How many people have work in this period and science, and how much it is."""
    found = _standings(period_days, science).aggregate(people=Count("pk"), work=Sum("work_micro"), paid=Sum("paid_micro"))
    return WallTotals(contributors=found["people"], work_micro=found["work"] or 0, paid_micro=found["paid"] or 0)


def sciences_seen() -> list[str]:
    """The first SCIENCES_MAX types of jobs that anybody has judged receipts of, by name. Each costs one look into an index."""
    with connection.cursor() as cursor:
        cursor.execute(_SCIENCES, [SCIENCES_MAX])
        return [science for (science,) in cursor.fetchall()]


def standing_of(*, owner: User) -> WallRow | None:
    """A person's line for all sciences and days, with the place that it has; None where there is no work."""
    standing = _standings(0, "").select_related("owner__membership__team").filter(owner=owner).first()
    if standing is None:
        return None
    ahead = _standings(0, "").filter(work_micro__gt=standing.work_micro).count()
    account = Account.objects.filter(owner=owner).values_list("pk", flat=True).first()
    return _row(standing, rank=ahead + 1, account_id=str(account or ""))


def workdays_of(*, owner: User, since: date) -> Sequence[tuple[date, int, int]]:
    """(day, verified work in millionths of a TFLOP/s-hour, accepted receipts) of the days from `since` on which something was accepted."""
    days = Workday.objects.filter(owner=owner, day__gte=since, accepted__gt=0).values("day")
    summed = days.annotate(work=Sum("work_micro"), receipts=Sum("accepted")).order_by("day")
    return [(one["day"], one["work"], one["receipts"]) for one in summed]


def _standings(period_days: int, science: str) -> QuerySet[Standing]:
    return Standing.objects.filter(period_days=period_days, science=science, work_micro__gt=0)


def _row(standing: Standing, *, rank: int, account_id: str) -> WallRow:
    owner = standing.owner
    is_shown = owner.is_public and owner.is_active
    membership = getattr(owner, "membership", None) if is_shown else None
    return WallRow(
        rank=rank,
        name=owner.public_name if is_shown else "",
        team=membership.team.name if membership else "",
        account_id=account_id,
        members=1,
        accepted=standing.accepted,
        rejected=standing.rejected,
        work_micro=standing.work_micro,
        paid_micro=standing.paid_micro,
        since=standing.since,
    )
