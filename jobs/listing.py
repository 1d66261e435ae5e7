"""The list of one owner's jobs: filtered, searched, newest first, a page at a time. A page costs the same at a million jobs as at ten.

1. A page continues behind a key, submission time and id: nothing is counted, nothing skipped.
2. Jobs of one shown state, type and tier are a *group*, and stand in the index `job_listed_by_group` one behind the other, newest first. A
   filter chooses groups; the newest of each are looked up and merged. Which groups an owner has is found by hopping through the same index.
3. A search first goes through the newest SEARCHED_FIRST jobs, as far as it must: words that are frequent fill a page from there. Words that
   are not are rare, and are looked up in the index of words.
4. An owner with more than GROUPS_MAX groups gets a plain walk through the newest instead: right, and not always quick.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.postgres.search import SearchQuery
from django.db import connection
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, QuerySet, Value

from jobs.models import Job
from jobs.states import JobState
from people.models import User

GROUPS_MAX: Final = 200
SEARCHED_FIRST: Final = 3000
WORDS_MAX: Final = 8
_NO_TIME: Final = timedelta(0)

Key = tuple[datetime, UUID]
"""Submission time and id of the job that the page before ended with."""

_GROUPS: Final = """
WITH RECURSIVE found AS (
    (SELECT shown_state, job_type, tier FROM jobs_job WHERE owner_id = %(owner)s AND is_archived = %(is_archived)s
     ORDER BY shown_state, job_type, tier LIMIT 1)
    UNION ALL
    SELECT following.* FROM found CROSS JOIN LATERAL (
        SELECT shown_state, job_type, tier FROM jobs_job WHERE owner_id = %(owner)s AND is_archived = %(is_archived)s
        AND (shown_state, job_type, tier) > (found.shown_state, found.job_type, found.tier)
        ORDER BY shown_state, job_type, tier LIMIT 1) following
)
SELECT shown_state, job_type, tier FROM found LIMIT %(most)s"""

_OF_GROUPS: Final = """
SELECT one.id FROM unnest(%(states)s::text[], %(types)s::text[], %(tiers)s::text[]) wanted (state, job_type, tier)
CROSS JOIN LATERAL (
    SELECT id, submitted_at FROM jobs_job
    WHERE owner_id = %(owner)s AND is_archived = %(is_archived)s
    AND shown_state = wanted.state AND job_type = wanted.job_type AND jobs_job.tier = wanted.tier
    AND (submitted_at, id) < (%(before_at)s, %(before_id)s) AND submitted_at >= %(since)s
    ORDER BY submitted_at DESC, id DESC LIMIT %(limit)s) one
ORDER BY one.submitted_at DESC, one.id DESC LIMIT %(limit)s"""

_NEWEST_WITH_WORDS: Final = """
SELECT id FROM (
    SELECT id, submitted_at, words, shown_state, job_type, tier FROM jobs_job
    WHERE owner_id = %(owner)s AND is_archived = %(is_archived)s
    AND (submitted_at, id) < (%(before_at)s, %(before_id)s) AND submitted_at >= %(since)s
    ORDER BY submitted_at DESC, id DESC LIMIT %(searched)s) newest
WHERE words @@ to_tsquery('simple', %(query)s)
AND %(state)s IN ('', shown_state) AND %(type)s IN ('', job_type) AND %(tier)s IN ('', tier)
ORDER BY submitted_at DESC, id DESC LIMIT %(limit)s"""


@dataclass(frozen=True, order=True)
class Group:
    """Jobs of an owner that have these in common."""

    state: str
    job_type: str
    tier: str


@dataclass(frozen=True)
class JobFilter:
    """Which jobs. Empty or None: any. `words`: all are words of the label or the title; the last may be the beginning of one."""

    state: JobState | None = None
    job_type: str = ""
    tier: str = ""
    since: datetime | None = None
    words: tuple[str, ...] = ()
    is_archived: bool = False

    @property
    def is_any(self) -> bool:
        """Whether it leaves nothing out of the list that it is about."""
        return self == JobFilter(is_archived=self.is_archived)

    def has(self, group: Group) -> bool:
        """Whether jobs of the group may be wanted."""
        return self.state in (None, group.state) and self.job_type in ("", group.job_type) and self.tier in ("", group.tier)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a search, as they are looked for: letters and digits, the first WORDS_MAX."""
    return tuple(re.findall(r"[^\W_]+", text.lower())[:WORDS_MAX])


def groups_of(*, owner: User, is_archived: bool = False) -> list[Group]:
    """The groups of the owner's list, or archive; the first GROUPS_MAX + 1 of them."""
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS, {"owner": owner.pk, "is_archived": is_archived, "most": GROUPS_MAX + 1})
        return [Group(*row) for row in cursor.fetchall()]


def jobs_listed(*, owner: User, wanted: JobFilter, groups: Sequence[Group], before: Key | None, limit: int) -> list[Job]:
    """The wanted jobs, newest first, at most `limit`, those behind `before`. `groups`: of the same list, as `groups_of` found them.

    Without their descriptors, which may be large.
    """
    listed: QuerySet[Job] = Job.objects.defer("descriptor", "words").order_by("-submitted_at", "-pk")
    if not wanted.is_any and not wanted.words and len(groups) <= GROUPS_MAX:
        return list(listed.filter(pk__in=_ids_of_groups(owner, wanted, groups, before, limit)))
    jobs = _behind(listed.filter(owner=owner, is_archived=wanted.is_archived), before)
    if wanted.since is not None:
        jobs = jobs.filter(submitted_at__gte=wanted.since)
    if not wanted.words:
        return list(_of_group(jobs, wanted)[:limit])
    query = " & ".join(wanted.words) + ":*"
    found = _ids(
        _NEWEST_WITH_WORDS, {**_place(owner, wanted, before, limit), **_columns(wanted), "query": query, "searched": SEARCHED_FIRST}
    )
    if len(found) == limit:
        return list(listed.filter(pk__in=found))
    # An order that no index has: PostgreSQL must find the words first, rather than hope to come across them.
    by_words = ExpressionWrapper(F("submitted_at") + Value(_NO_TIME, DurationField()), output_field=DateTimeField())
    return list(
        _of_group(jobs.filter(words=SearchQuery(query, config="simple", search_type="raw")), wanted).order_by(by_words.desc(), "-pk")[
            :limit
        ]
    )


def jobs_of(*, owner: User, state: JobState | None = None, label: str | None = None, before: Key | None = None, limit: int) -> list[Job]:
    """The listed jobs of `owner`, newest first, in a state as shown; with a label the one that has it, archived or not."""
    if label is not None:
        found = Job.objects.filter(owner=owner, label=label)
        return list(_behind(found if state is None else found.filter(shown_state=state), before)[:limit])
    wanted = JobFilter(state=state)
    return jobs_listed(owner=owner, wanted=wanted, groups=[] if wanted.is_any else groups_of(owner=owner), before=before, limit=limit)


def _ids_of_groups(owner: User, wanted: JobFilter, groups: Sequence[Group], before: Key | None, limit: int) -> list[UUID]:
    chosen = [group for group in groups if wanted.has(group)]
    columns = {
        "states": [group.state for group in chosen],
        "types": [group.job_type for group in chosen],
        "tiers": [group.tier for group in chosen],
    }
    return _ids(_OF_GROUPS, {**_place(owner, wanted, before, limit), **columns})


def _place(owner: User, wanted: JobFilter, before: Key | None, limit: int) -> dict[str, Any]:
    """Which list, and where in it."""
    before_at, before_id = before or (None, None)
    return {
        "owner": owner.pk,
        "is_archived": wanted.is_archived,
        "before_at": before_at or "infinity",
        "before_id": before_id or UUID(int=0),
        "since": wanted.since or "-infinity",
        "limit": limit,
    }


def _ids(statement: str, parameters: dict[str, Any]) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [job_id for (job_id,) in cursor.fetchall()]


def _behind(jobs: QuerySet[Job], before: Key | None) -> QuerySet[Job]:
    """In words that PostgreSQL takes for a range of the index."""
    if before is None:
        return jobs
    submitted_at, job_id = before
    return jobs.filter(submitted_at__lte=submitted_at).exclude(submitted_at=submitted_at, pk__gte=job_id)


def _of_group(jobs: QuerySet[Job], wanted: JobFilter) -> QuerySet[Job]:
    columns = {"shown_state": wanted.state, "job_type": wanted.job_type, "tier": wanted.tier}
    return jobs.filter(**{name: value for name, value in columns.items() if value})


def _columns(wanted: JobFilter) -> dict[str, str]:
    """ "" is any."""
    return {"state": wanted.state or "", "type": wanted.job_type, "tier": wanted.tier}
