"""Which part of the wall is asked for. Pages and API read a query alike; a page takes what it doesn't know for the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nodes.wall.selectors import PLACE_MAX, WallRow, people_ranked, teams_ranked

PAGE_ROWS: Final = 50


class Period(StrEnum):
    """As it stands in an address."""

    ALL = "all"
    MONTH = "30"
    WEEK = "7"

    @property
    def days(self) -> int:
        """0: all of them."""
        return 0 if self is Period.ALL else int(self)

    @property
    def words(self) -> str:
        return "all time" if self is Period.ALL else f"{self} days"


class Kind(StrEnum):
    """Whose lines."""

    PEOPLE = "person"
    TEAMS = "team"


@dataclass(frozen=True)
class WallAsked:
    """`science` "" is all of them; `first` is the place of the first line, 1 is the top."""

    period: Period = Period.ALL
    science: str = ""
    kind: Kind = Kind.PEOPLE
    first: int = 1

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> WallAsked:
        period, kind, first = query.get("period", ""), query.get("by", ""), query.get("from", "")
        return cls(
            Period(period) if period in set(Period) else Period.ALL,
            query.get("science", "").replace("\0", "")[:64],
            Kind(kind) if kind in set(Kind) else Kind.PEOPLE,
            min(max(int(first), 1), PLACE_MAX) if first.isascii() and first.isdigit() and len(first) < 19 else 1,
        )

    def rows(self, *, limit: int) -> list[WallRow]:
        """Up to `limit` lines."""
        match self.kind:
            case Kind.PEOPLE:
                return people_ranked(period_days=self.period.days, science=self.science, first=self.first, limit=limit)
            case Kind.TEAMS:
                return teams_ranked(period_days=self.period.days, science=self.science, first=self.first, limit=limit)
