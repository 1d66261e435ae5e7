"""Reads of the wall. Names of people who chose not to be public don't come out of here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from django.db import connection
from django.db.models import QuerySet, Sum

from ledger.models import Account
from nodes.models import Standing, WallTotal, Workday
from people.models import User

SCIENCES_MAX: Final = 40
"""In the filter; others are found by their address."""
PLACE_MAX: Final = 1_000_000
"""The last place that a page begins at: each place before it is passed over in the index."""

_TEAMS: Final = """
SELECT team.name, ranked.* FROM (
    SELECT member.team_id, count(*) AS members, sum(accepted) AS accepted, sum(rejected) AS rejected, sum(work_micro) AS work,
           sum(paid_micro) AS paid, min(since) AS since
    FROM nodes_standing standing JOIN people_teammember member ON member.user_id = standing.owner_id
    WHERE period_days = %s AND science = %s AND work_micro > 0
    GROUP BY member.team_id ORDER BY work DESC, member.team_id OFFSET %s LIMIT %s
) ranked JOIN people_team team ON team.id = ranked.team_id ORDER BY ranked.work DESC, ranked.team_id
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


def people_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """Up to `limit` people from place `first` (1 is the top) by verified work; `science` "" is all of them."""
    # Places are passed over in the index; what is shown of a person is looked up for those on the page only.
    places = _standings(period_days, science).order_by("-work_micro", "owner").values_list("pk", flat=True)
    shown = list(places[first - 1 : first - 1 + limit])
    standings = list(Standing.objects.filter(pk__in=shown).select_related("owner__membership__team").order_by("-work_micro", "owner"))
    accounts = dict(Account.objects.filter(owner__in=[one.owner_id for one in standings]).values_list("owner_id", "pk"))
    return [
        _row(standing, rank=first + place, account_id=str(accounts.get(standing.owner_id, ""))) for place, standing in enumerate(standings)
    ]


def teams_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """As people_ranked, by team: the work of those who are in it now, public or not. Only teams with work are there."""
    with connection.cursor() as cursor:
        cursor.execute(_TEAMS, [period_days, science, first - 1, limit])
        teams = cursor.fetchall()
    return [
        WallRow(
            rank=first + place,
            name=name,
            team="",
            account_id="",
            members=members,
            accepted=int(accepted),
            rejected=int(rejected),
            work_micro=int(work),
            paid_micro=int(paid),
            since=since,
        )
        for place, (name, _, members, accepted, rejected, work, paid, since) in enumerate(teams)
    ]


def wall_totals(*, period_days: int, science: str) -> WallTotal:
    """How many people have work in this period and science, and how much it is; all 0 where nobody has."""
    found = WallTotal.objects.filter(period_days=period_days, science=science).first()
    return found or WallTotal(period_days=period_days, science=science, contributors=0, work_micro=0, paid_micro=0)


def sciences_seen() -> list[str]:
    """The SCIENCES_MAX types of jobs with the most verified work, by name."""
    seen = WallTotal.objects.filter(period_days=0, contributors__gt=0).exclude(science="").order_by("-work_micro", "science")
    return sorted(seen.values_list("science", flat=True)[:SCIENCES_MAX])


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
