"""The list of the caller's jobs, and those of its rows that have changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.dateparse import parse_date
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs import selectors
from jobs.listing import JobFilter, Key, groups_of, jobs_listed, words_of
from jobs.models import Job
from jobs.states import JobState
from jobs.views.rows import job_rows
from people.models import User
from people.page_users import user_of
from workers.protocol.messages.machine import Tier

PAGE_JOBS: Final = 50
SEARCH_CHARACTERS_MAX: Final = 200
STOP_POLLING: Final = 286
"""The status at which htmx asks no more."""


@require_GET
@never_cache
@login_required
def jobs_page(request: HttpRequest) -> HttpResponse:
    """The caller's newest jobs, those that are asked for. Older ones follow behind `before`, a job's id."""
    owner, asked = user_of(request), request.GET
    wanted = filter_of(asked)
    groups = groups_of(owner=owner, is_archived=wanted.is_archived)
    jobs = jobs_listed(owner=owner, wanted=wanted, groups=groups, before=_before(owner, asked.get("before", "")), limit=PAGE_JOBS + 1)
    rows = job_rows(jobs[:PAGE_JOBS], names_shown=True)
    context = {
        "rows": rows,
        "is_followed": any(row.may_change for row in rows),
        "next": _query(asked, before=str(rows[-1].job.pk)) if len(jobs) > PAGE_JOBS else "",
        "first": _query(asked) if asked.get("before") else "",
        "back": asked.urlencode(),
        "wanted": wanted,
        "searched": asked.get("q", "")[:SEARCH_CHARACTERS_MAX],
        "since": wanted.since.date().isoformat() if wanted.since else "",
        "states": [(state, _query(asked, state=state)) for state in JobState],
        "any_state": _query(asked, state=""),
        "types": sorted({group.job_type for group in groups} | ({wanted.job_type} - {""})),
        "tiers": list(Tier),
        "has_jobs": bool(groups),
        "is_narrowed": not replace(wanted, is_archived=False).is_any,
        "login_command": f"nexa login {settings.NEXA_ORIGIN}",
    }
    return render(request, "jobs/list.html", context)


@require_GET
@never_cache
@login_required
def jobs_rows(request: HttpRequest) -> HttpResponse:
    """Of the rows that a page names, `row=<job id>:<version>`, those that have changed; nothing, and no more questions, when none can."""
    seen = dict(named.split(":", 1) for named in request.GET.getlist("row")[:PAGE_JOBS] if ":" in named)
    jobs = selectors.jobs_named(owner=user_of(request), job_ids=seen)
    rows = job_rows(jobs, names_shown=True, chosen=frozenset(request.GET.getlist("job")))
    changed = [row for row in rows if row.version != seen.get(str(row.job.pk))]
    if not changed and any(row.may_change for row in rows):
        return HttpResponse(status=204)
    status = 200 if any(row.may_change for row in rows) else STOP_POLLING
    return render(request, "jobs/_rows_changed.html", {"rows": changed}, status=status)


def filter_of(asked: QueryDict) -> JobFilter:
    """What a query asks for; a strange value asks for nothing."""
    state, tier, since = asked.get("state", ""), asked.get("tier", ""), _date(asked.get("since", ""))
    return JobFilter(
        state=JobState(state) if state in set(JobState) else None,
        job_type=asked.get("type", "").replace("\0", "")[:64],
        tier=tier if tier in set(Tier) else "",
        since=since,
        words=words_of(asked.get("q", "")[:SEARCH_CHARACTERS_MAX]),
        is_archived=asked.get("archived") == "yes",
    )


def _query(asked: QueryDict, **changed: str) -> str:
    """The same question with some parts changed, from its first page on; a part that is empty is left out."""
    query = QueryDict(mutable=True)
    for name in ("q", "state", "type", "tier", "since", "archived", "before"):
        value = changed.get(name, "" if name == "before" else asked.get(name, ""))
        if value:
            query[name] = value
    return "?" + query.urlencode()


def _date(text: str) -> datetime | None:
    """The beginning of that day, UTC."""
    try:
        day = parse_date(text)
    except ValueError:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def _before(owner: User, text: str) -> Key | None:
    """The key of the job that the page before ended with; a strange one starts at the newest."""
    try:
        job_id = UUID(text)
    except ValueError:
        return None
    found = Job.objects.filter(owner=owner, pk=job_id).values_list("submitted_at", flat=True).first()
    return (found, job_id) if found else None
