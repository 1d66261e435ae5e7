"""Pages of a list that go on behind their last row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def page_of(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """The first `limit` of `rows`, of which one more was asked for; and the last of them if that one came: the next page is behind it."""
    page = rows[:limit]
    return page, page[-1] if len(rows) > limit else None
