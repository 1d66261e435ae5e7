"""Reads of the wall. Names of people who chose not to be public don't come out of here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.db.models import QuerySet, Sum

from nodes.models import Standing, TeamStanding, WallTotal, Workday
from people.models import User

SCIENCES_MAX: Final = 40
"""In the filter; others are found by their address."""
PLACE_MAX: Final = 1_000_000
"""The last place that a page begins at: each place before it is passed over in the index."""
_SHOWN: Final = (
    *("accepted", "rejected", "work_micro", "paid_micro", "since"),
    *("owner__is_public", "owner__is_active", "owner__display_name", "owner__username"),
    *("owner__membership__team__name", "owner__ledger_account"),
)


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
    """A person's first workday; the day on which a team was founded."""

    @property
    def accuracy(self) -> float | None:
        """Accepted of all judged receipts; None where none was judged."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged else None


def people_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """Up to `limit` people from place `first` (1 is the top) by verified work; `science` "" is all of them."""
    # Places are passed over in the index; what is shown of a person is looked up for those on the page only.
    ranked = _standings(period_days, science).order_by("-work_micro", "owner")
    shown = ranked.values("owner")[first - 1 : first - 1 + limit]
    rows = Standing.objects.filter(owner__in=shown, period_days=period_days, science=science).order_by("-work_micro", "owner")
    return [_row(values, rank=first + place) for place, values in enumerate(rows.values(*_SHOWN))]


def teams_ranked(*, period_days: int, science: str, first: int, limit: int) -> list[WallRow]:
    """As people_ranked, by team: the work of those who are in it, public or not. Only teams with work are there."""
    ranked = TeamStanding.objects.filter(period_days=period_days, science=science).select_related("team").order_by("-work_micro", "team_id")
    return [
        WallRow(
            rank=first + place,
            name=standing.team.name,
            team="",
            account_id="",
            members=standing.members,
            accepted=standing.accepted,
            rejected=standing.rejected,
            work_micro=standing.work_micro,
            paid_micro=standing.paid_micro,
            since=standing.team.created_at.date(),
        )
        for place, standing in enumerate(ranked[first - 1 : first - 1 + limit])
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
    values = _standings(0, "").filter(owner=owner).values(*_SHOWN).first()
    if values is None:
        return None
    # In words that PostgreSQL takes for a range of the index.
    ahead = _standings(0, "").filter(work_micro__gte=values["work_micro"]).exclude(work_micro=values["work_micro"], owner__gte=owner.pk)
    return _row(values, rank=ahead.count() + 1)


def workdays_of(*, owner: User, since: date) -> Sequence[tuple[date, int, int]]:
    """(day, verified work in millionths of a TFLOP/s-hour, accepted receipts) of the days from `since` on which something was accepted."""
    days = Workday.objects.filter(owner=owner, day__gte=since, accepted__gt=0).values("day")
    summed = days.annotate(work=Sum("work_micro"), receipts=Sum("accepted")).order_by("day")
    return [(one["day"], one["work"], one["receipts"]) for one in summed]


def _standings(period_days: int, science: str) -> QuerySet[Standing]:
    return Standing.objects.filter(period_days=period_days, science=science, work_micro__gt=0)


def _row(values: dict[str, Any], *, rank: int) -> WallRow:
    is_shown = values["owner__is_public"] and values["owner__is_active"]
    return WallRow(
        rank=rank,
        name=(values["owner__display_name"] or values["owner__username"]) if is_shown else "",
        team=(values["owner__membership__team__name"] or "") if is_shown else "",
        account_id=str(values["owner__ledger_account"] or ""),
        members=1,
        accepted=values["accepted"],
        rejected=values["rejected"],
        work_micro=values["work_micro"],
        paid_micro=values["paid_micro"],
        since=values["since"],
    )
