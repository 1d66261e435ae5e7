"""Pages of the wall: for everybody; names and teams only of those who chose to be public."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from ledger.selectors import payments_page, reversed_among
from nodes.wall import selectors
from nodes.wall.asking import PAGE_ROWS, Kind, Period, WallAsked
from people.paging import page_of
from people.selectors import public_person

CALENDAR_DAYS: Final = 371
"""53 weeks."""
PAGE_PAYMENTS: Final = 50


@require_GET
def wall_page(request: HttpRequest) -> HttpResponse:
    """Who contributed how much, by period, science, person or team."""
    asked = WallAsked.from_query(request.GET.dict())
    found = asked.rows(limit=PAGE_ROWS + 1)
    context = {
        "rows": found[:PAGE_ROWS],
        "totals": selectors.wall_totals(period_days=asked.period.days, science=asked.science),
        "asked": asked,
        "is_teams": asked.kind is Kind.TEAMS,
        "periods": [_choice(asked, one.words, is_here=one is asked.period, period=one) for one in Period],
        "kinds": [_choice(asked, f"by {one}", is_here=one is asked.kind, by=one) for one in Kind],
        "sciences": selectors.sciences_seen(),
        "newer": _address(asked, first=max(1, asked.first - PAGE_ROWS)) if asked.first > 1 else None,
        "older": _address(asked, first=asked.first + PAGE_ROWS) if len(found) > PAGE_ROWS else None,
        "api_query": _address(asked, first=asked.first),
    }
    return render(request, "nodes/wall.html", context)


@require_GET
def contributor_page(request: HttpRequest, name: str) -> HttpResponse:
    """One contributor who chose to be public: their days, and every payment with its place in the log."""
    person = public_person(name=name)
    if person is None:
        raise Http404("Nobody of this name shows a page. Contributors choose in their profile whether they do.")
    today = timezone.now().date()
    since = today - timedelta(days=CALENDAR_DAYS - 1)
    before = request.GET.get("before", "")
    account = getattr(person, "ledger_account", None)
    place = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    payments = payments_page(account=account, before=place, limit=PAGE_PAYMENTS + 1) if account else []
    page, last = page_of(payments, PAGE_PAYMENTS)
    reversed_entries = reversed_among(page)
    context = {
        "person": person,
        "account_id": str(account.pk) if account else "",
        "standing": selectors.standing_of(owner=person),
        "days": selectors.workdays_of(owner=person, since=since),
        "today": today,
        "payments": [(posting, posting.entry_id in reversed_entries) for posting in page],
        "next": last and last.pk,
        "before": place,
    }
    return render(request, "nodes/contributor.html", context)


def _choice(asked: WallAsked, words: str, *, is_here: bool, **changed: str) -> dict[str, Any]:
    """A link to the same wall with one choice changed, at its top."""
    return {"words": words, "href": _address(asked, first=1, **changed), "is_here": is_here}


def _address(asked: WallAsked, *, first: int, **changed: str) -> str:
    query = {"period": asked.period, "by": asked.kind, "science": asked.science, **changed}
    kept = {name: str(value) for name, value in query.items() if value and value not in (Period.ALL, Kind.PEOPLE)}
    if first > 1:
        kept["from"] = str(first)
    return f"?{urlencode(kept)}"
