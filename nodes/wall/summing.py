"""From workdays to standings: a person's sums by period and science, made again for those whose workdays changed and for nobody else.

1. A workday is due when something was added to it, and on the day on which it leaves a period: `due_on` says when next.
2. A person's standings are summed anew from all of their workdays, never added to: a run that is repeated changes nothing.
3. One run at a time. A workday that settlement holds at this moment is passed over, and found by the next run.
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
_SUM: Final = """
INSERT INTO nodes_standing (owner_id, period_days, science, accepted, rejected, work_micro, paid_micro, since)
SELECT work.owner_id, period, coalesce(science, ''), sum(accepted), sum(rejected), sum(work_micro), sum(paid_micro), min(since)
FROM (SELECT *, min(day) OVER (PARTITION BY owner_id) AS since FROM nodes_workday WHERE owner_id = ANY(%(owners)s)) work
JOIN unnest(%(periods)s::smallint[]) AS period ON period = 0 OR day > %(today)s - period
GROUP BY GROUPING SETS ((work.owner_id, period, science), (work.owner_id, period))
"""


def standings_sum(*, today: date) -> int:
    """Sums again what is due on `today` (UTC); how many workdays were. 0 where another run is at it."""
    summed = 0
    while taken := _batch_sum(today):
        summed += taken
    return summed


@transaction.atomic
def _batch_sum(today: date) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if cursor.fetchone() == (False,):
            return 0
        cursor.execute(_TAKE, {"today": today, "limit": BATCH_WORKDAYS})
        taken = [owner for (owner,) in cursor.fetchall()]
        if taken:
            owners = sorted(set(taken))
            cursor.execute("DELETE FROM nodes_standing WHERE owner_id = ANY(%s)", [owners])
            cursor.execute(_SUM, {"today": today, "owners": owners, "periods": list(PERIODS)})
    return len(taken)
