"""From workdays to standings: a person's sums by period and science, made again for those whose workdays changed and for nobody else.

1. A workday is due when something was added to it, and on the day on which it leaves a period: `due_on` says when next. One of a person's
   is due when they come into a team or leave one.
2. A person's standings are summed anew from all of their workdays, never added to: a run that is repeated changes nothing.
3. The sums of teams and the totals of all move by what the persons' standings moved, in the same transaction. A standing says in which
   team's sums it is, so that it leaves those that it came into, whatever the person did in between.
4. One run at a time. A workday that settlement holds at this moment is passed over, and found by the next run.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from django.db import connection, transaction

PERIODS: Final = (0, 30, 7)
"""In days, today among them; 0 is all of them. Newest last: the longer ones hold the shorter."""
BATCH_WORKDAYS: Final = 5000
_LOCK: Final = 0x77616C6C  # "wall"

_TAKE: Final = """
UPDATE nodes_workday SET due_on = CASE WHEN %(today)s < day + 7 THEN day + 7 WHEN %(today)s < day + 30 THEN day + 30 END
WHERE id IN (SELECT id FROM nodes_workday WHERE due_on <= %(today)s ORDER BY due_on, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING owner_id
"""
_REMOVE: Final = """
WITH gone AS (DELETE FROM nodes_standing WHERE owner_id = ANY(%(owners)s) RETURNING *),
teams AS (
    UPDATE nodes_teamstanding kept SET
        members = kept.members - gone.people, accepted = kept.accepted - gone.accepted, rejected = kept.rejected - gone.rejected,
        work_micro = kept.work_micro - gone.work, paid_micro = kept.paid_micro - gone.paid
    FROM (SELECT team_id, period_days, science, count(*) AS people, sum(accepted) AS accepted, sum(rejected) AS rejected,
                 sum(work_micro) AS work, sum(paid_micro) AS paid
          FROM gone WHERE work_micro > 0 AND team_id IS NOT NULL GROUP BY team_id, period_days, science) gone
    WHERE kept.team_id = gone.team_id AND kept.period_days = gone.period_days AND kept.science = gone.science
)
UPDATE nodes_walltotal total SET
    contributors = total.contributors - gone.people, work_micro = total.work_micro - gone.work, paid_micro = total.paid_micro - gone.paid
FROM (SELECT period_days, science, count(*) FILTER (WHERE work_micro > 0) AS people, sum(work_micro) AS work, sum(paid_micro) AS paid
      FROM gone GROUP BY period_days, science) gone
WHERE total.period_days = gone.period_days AND total.science = gone.science
"""
_SUM: Final = """
WITH made AS (
    INSERT INTO nodes_standing (owner_id, period_days, science, accepted, rejected, work_micro, paid_micro, since, team_id)
    SELECT work.owner_id, period, coalesce(science, ''), sum(accepted), sum(rejected), sum(work_micro), sum(paid_micro), min(since),
           min(member.team_id)
    FROM (SELECT *, min(day) OVER (PARTITION BY owner_id) AS since FROM nodes_workday
          WHERE owner_id = ANY(%(owners)s) AND accepted + rejected > 0) work
    JOIN unnest(%(periods)s::smallint[]) AS period ON period = 0 OR day > %(today)s - period
    LEFT JOIN people_teammember member ON member.user_id = work.owner_id
    GROUP BY GROUPING SETS ((work.owner_id, period, science), (work.owner_id, period))
    RETURNING *
),
teams AS (
    INSERT INTO nodes_teamstanding (team_id, period_days, science, members, accepted, rejected, work_micro, paid_micro)
    SELECT team_id, period_days, science, count(*), sum(accepted), sum(rejected), sum(work_micro), sum(paid_micro)
    FROM made WHERE work_micro > 0 AND team_id IS NOT NULL GROUP BY team_id, period_days, science
    ON CONFLICT (team_id, period_days, science) DO UPDATE SET
        members = nodes_teamstanding.members + EXCLUDED.members, accepted = nodes_teamstanding.accepted + EXCLUDED.accepted,
        rejected = nodes_teamstanding.rejected + EXCLUDED.rejected, work_micro = nodes_teamstanding.work_micro + EXCLUDED.work_micro,
        paid_micro = nodes_teamstanding.paid_micro + EXCLUDED.paid_micro
)
INSERT INTO nodes_walltotal (period_days, science, contributors, work_micro, paid_micro)
SELECT period_days, science, count(*) FILTER (WHERE work_micro > 0), sum(work_micro), sum(paid_micro)
FROM made GROUP BY period_days, science
ON CONFLICT (period_days, science) DO UPDATE SET
    contributors = nodes_walltotal.contributors + EXCLUDED.contributors,
    work_micro = nodes_walltotal.work_micro + EXCLUDED.work_micro, paid_micro = nodes_walltotal.paid_micro + EXCLUDED.paid_micro
"""
_EMPTY: Final = "DELETE FROM nodes_teamstanding WHERE members = 0"


def standings_sum(*, today: date, batch_workdays: int = BATCH_WORKDAYS) -> int:
    """Sums again what is due on `today` (UTC), `batch_workdays` in a transaction; how many were. 0 where another run is at it."""
    summed = 0
    while taken := _batch_sum(today, batch_workdays):
        summed += taken
    return summed


@transaction.atomic
def _batch_sum(today: date, workdays: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if cursor.fetchone() == (False,):
            return 0
        cursor.execute(_TAKE, {"today": today, "limit": workdays})
        taken = [owner for (owner,) in cursor.fetchall()]
        if taken:
            owners = sorted(set(taken))
            cursor.execute(_REMOVE, {"owners": owners})
            cursor.execute(_SUM, {"today": today, "owners": owners, "periods": list(PERIODS)})
            cursor.execute(_EMPTY)
    return len(taken)
