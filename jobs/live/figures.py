"""What the live dashboard shows, read from the database only.

1. It is public, so every open job counts as a veiled one (jobs/evidence/disclosure.py), of one copy or not: it is queued until some
   host has taken it, and runs from then on until it ends. Else the jobs whose receipts show would tell which jobs have none to show: the
   replicated ones.
2. A node is online, paused, quarantined or silent, never busy: a node that turns idle would tell that it has delivered.
3. What is told of runs, reasons and delays is of concluded jobs.
4. Only the newest hour (failures: the newest day) is looked at, through the indexes of JobEvent: the cost does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Count, Min, Q
from django.utils import timezone

from jobs import selectors
from jobs.evidence import disclosure
from jobs.evidence.custody import Mark, Progress, job_line, verdict_sentence
from jobs.models import Job, JobEvent, Replica
from jobs.states import JOB_TERMINAL, JobState
from nodes.models import Node, NodeState
from workers.protocol.messages.machine import Tier

HISTORY: Final = timedelta(hours=1)
FAILURES: Final = timedelta(days=1)
STEP: Final = timedelta(minutes=1)
NEWEST_JOBS: Final = 12
_NEWEST_EVENTS: Final = 120
_KINDS: Final = sorted(disclosure.EVENTS_ONCE | {f"job.{state}" for state in JOB_TERMINAL} | {f"job.{JobState.DISPUTED}"})
_OPEN_WORDS: Final = {JobState.QUEUED: "Submitted; waits for a host.", JobState.RUNNING: "A host is at work."}

_QUEUES: Final = """
    WITH touched AS (
        SELECT DISTINCT job_id FROM jobs_jobevent
        WHERE created_at >= %(since)s AND kind IN ('job.queued', 'job.running', 'job.failed', 'job.cancelled')
    ), waits AS (
        SELECT job.tier, job.submitted_at AS came_at, taken.at AS taken_at, coalesce(taken.at, job.concluded_at) AS left_at
        FROM touched JOIN jobs_job job ON job.id = touched.job_id
        LEFT JOIN LATERAL (SELECT min(leased_at) AS at FROM jobs_replica WHERE job_id = job.id) taken ON true
    ), moves AS (
        SELECT tier, came_at AS at, 1 AS change FROM waits WHERE came_at >= %(since)s
        UNION ALL SELECT tier, left_at, -1 FROM waits WHERE left_at >= %(since)s
    )
    SELECT tier, date_bin(%(step)s, at, %(since)s) AS bin, sum(change), NULL, NULL FROM moves GROUP BY tier, bin
    UNION ALL
    SELECT tier, NULL, count(*),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM taken_at - came_at)),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM taken_at - came_at))
    FROM waits WHERE taken_at >= %(since)s GROUP BY tier
"""
_ENDS: Final = """
    SELECT kind, date_bin(%(step)s, created_at, %(since)s) AS bin, count(*) FROM jobs_jobevent
    WHERE kind IN ('job.completed', 'job.failed', 'job.cancelled') AND created_at >= %(since)s GROUP BY kind, bin
"""
_DELAYS: Final = """
    SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY delay), percentile_cont(0.95) WITHIN GROUP (ORDER BY delay) FROM (
        SELECT extract(epoch FROM job.concluded_at - last.at) AS delay
        FROM jobs_jobevent ended JOIN jobs_job job ON job.id = ended.job_id
        JOIN LATERAL (
            SELECT max(receipt.received_at) AS at FROM jobs_receipt receipt JOIN jobs_replica replica ON replica.id = receipt.replica_id
            WHERE replica.job_id = job.id AND NOT receipt.late
        ) last ON last.at IS NOT NULL
        WHERE ended.kind = 'job.completed' AND ended.created_at >= %(since)s
            AND NOT EXISTS (SELECT FROM jobs_ruling ruling WHERE ruling.job_id = job.id)
    ) concluded
"""
_REASONS: Final = """
    WITH ended AS (
        SELECT job_id, kind FROM jobs_jobevent
        WHERE kind IN ('job.completed', 'job.failed', 'job.cancelled') AND created_at >= %(since)s
    )
    SELECT code, sum(jobs), sum(runs) FROM (
        SELECT job.failure_code AS code, 1 AS jobs, 0 AS runs FROM ended JOIN jobs_job job ON job.id = ended.job_id
        WHERE ended.kind = 'job.failed'
        UNION ALL
        SELECT replica.failure_code, 0, 1 FROM ended JOIN jobs_replica replica ON replica.job_id = ended.job_id
        WHERE replica.state = 'failed'
    ) failures WHERE code <> '' GROUP BY code ORDER BY sum(jobs) DESC, sum(runs) DESC, code LIMIT 12
"""
Point = tuple[datetime, float | None]


@dataclass(frozen=True)
class Percentiles:
    """Of `count` durations, in seconds; None without any."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class TierNow:
    """A tier's nodes by state, and its jobs that no host has taken yet."""

    tier: Tier
    online: int
    paused: int
    quarantined: int
    silent: int
    waiting: int
    oldest_at: datetime | None

    @property
    def registered(self) -> int:
        return self.online + self.paused + self.quarantined + self.silent


@dataclass(frozen=True)
class Happening:
    """A job by its newest event: no name, no id."""

    at: datetime
    job_type: str
    tier: str
    state: JobState
    custody: list[Mark]
    words: str


@dataclass(frozen=True)
class Reason:
    """How many jobs failed with this code, and how many runs of concluded jobs."""

    code: str
    jobs: int
    runs: int


@dataclass(frozen=True)
class History:
    """The newest hour, a minute a point, and the reasons of a day.

    `changes`: by tier and minute, how many jobs came, less those that were taken or ended.
    """

    since: datetime
    changes: Mapping[tuple[str, datetime], int]
    waits: Mapping[str, Percentiles]
    completed: list[Point]
    ended_without: list[Point]
    delays: Percentiles
    reasons: list[Reason]

    @property
    def completed_count(self) -> int:
        return int(sum(value or 0 for _, value in self.completed))

    @property
    def ended_without_count(self) -> int:
        return int(sum(value or 0 for _, value in self.ended_without))

    @property
    def ends_top(self) -> float:
        """The most in one minute: both charts of conclusions share it."""
        return max(chain((value or 0 for _, value in self.completed), (value or 0 for _, value in self.ended_without)), default=0)

    def depths_of(self, now: TierNow) -> list[Point]:
        """How many jobs waited at the end of each minute, counted back from how many wait now."""
        depth = now.waiting
        points: list[Point] = []
        for at in reversed(_minutes(self.since)):
            points.append((at + STEP, float(max(depth, 0))))
            depth -= self.changes.get((now.tier, at), 0)
        return points[::-1]


def tiers_now() -> list[TierNow]:
    """Every tier, in two statements."""
    seen = Q(last_seen_at__gte=timezone.now() - timedelta(seconds=selectors.SEEN_SECONDS))
    fleet = {
        row["tier"]: row
        for row in Node.objects.exclude(state=NodeState.REVOKED)
        .values("tier")
        .annotate(
            registered=Count("pk"),
            online=Count("pk", filter=seen & Q(state=NodeState.ACTIVE)),
            paused=Count("pk", filter=seen & Q(state=NodeState.PAUSED)),
            quarantined=Count("pk", filter=Q(state=NodeState.QUARANTINED)),
        )
    }
    queues = {
        row["tier"]: row for row in selectors.jobs_untaken().values("tier").annotate(waiting=Count("pk"), oldest_at=Min("submitted_at"))
    }
    return [_tier_now(tier, fleet.get(tier.value, {}), queues.get(tier.value, {})) for tier in Tier]


def _tier_now(tier: Tier, fleet: Mapping[str, Any], queue: Mapping[str, Any]) -> TierNow:
    online, paused, quarantined = (fleet.get(name, 0) for name in ("online", "paused", "quarantined"))
    silent = fleet.get("registered", 0) - online - paused - quarantined
    return TierNow(tier, online, paused, quarantined, silent, queue.get("waiting", 0), queue.get("oldest_at"))


def history(*, now: datetime) -> History:
    """The newest hour, in four statements."""
    since = now - HISTORY
    hour = {"since": since, "step": STEP}
    changes: dict[tuple[str, datetime], int] = {}
    waits: dict[str, Percentiles] = {}
    for tier, at, count, p50, p95 in _rows(_QUEUES, hour):
        if at is None:
            waits[tier] = Percentiles(int(count), _number(p50), _number(p95))
        else:
            changes[tier, at] = int(count)
    ends: dict[tuple[str, datetime], int] = {(kind, at): count for kind, at, count in _rows(_ENDS, hour)}
    count, p50, p95 = _rows(_DELAYS, hour)[0]
    return History(
        since=since,
        changes=changes,
        waits=waits,
        completed=_series(ends, since, ["job.completed"]),
        ended_without=_series(ends, since, ["job.failed", "job.cancelled"]),
        delays=Percentiles(count, _number(p50), _number(p95)),
        reasons=[Reason(code, int(jobs), int(runs)) for code, jobs, runs in _rows(_REASONS, {"since": now - FAILURES})],
    )


def happenings() -> list[Happening]:
    """The jobs to which something happened last that strangers may know, newest first; three statements at most."""
    newest = JobEvent.objects.filter(kind__in=_KINDS, public=True).select_related("job").defer("job__descriptor").order_by("-pk")
    events = selectors.events_for_strangers(sorted(newest[:_NEWEST_EVENTS], key=lambda event: event.pk))
    by_job: dict[UUID, JobEvent] = {}
    for event in reversed(events):
        by_job.setdefault(event.job_id, event)
    shown = list(by_job.values())[:NEWEST_JOBS]
    taken = set(Replica.objects.filter(job__in=[event.job_id for event in shown], leased_at__isnull=False).values_list("job", flat=True))
    return [_happening(event, was_taken=event.job_id in taken) for event in shown]


def _happening(event: JobEvent, *, was_taken: bool) -> Happening:
    job: Job = event.job
    state = disclosure.job_state_shown(state=JobState(job.state), was_taken=was_taken)
    words = _OPEN_WORDS.get(state) or verdict_sentence(state=state, quorum=job.quorum, summary=job.verdict_summary, names_shown=False)
    receipts = job.quorum if state == JobState.DISPUTED else 0  # a dispute is about receipts that are in
    custody = job_line(state=state, quorum=job.quorum, progress=Progress(leased=int(was_taken), receipts=receipts))
    return Happening(event.created_at, job.job_type, job.tier, state, custody, words)


def _rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _minutes(since: datetime) -> list[datetime]:
    return [since + place * STEP for place in range(HISTORY // STEP)]


def _series(counts: Mapping[tuple[str, datetime], int], since: datetime, kinds: Sequence[str]) -> list[Point]:
    return [(at + STEP, float(sum(_each(counts, kinds, at)))) for at in _minutes(since)]


def _each(counts: Mapping[tuple[str, datetime], int], kinds: Iterable[str], at: datetime) -> Iterable[int]:
    return (counts.get((kind, at), 0) for kind in kinds)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
