"""What settlement writes down for the wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.utils import timezone

_RECORD: Final = """
INSERT INTO nodes_workday (owner_id, day, science, accepted, rejected, work_micro, paid_micro, due_on)
SELECT owner, %(day)s, science, count(*) FILTER (WHERE accepted), count(*) FILTER (WHERE NOT accepted), sum(work), sum(paid), %(day)s
FROM unnest(%(owners)s::bigint[], %(sciences)s::text[], %(accepted)s::boolean[], %(work)s::bigint[], %(paid)s::bigint[])
     AS judged (owner, science, accepted, work, paid)
GROUP BY owner, science ORDER BY owner, science
ON CONFLICT (owner_id, day, science) DO UPDATE SET
    accepted = nodes_workday.accepted + EXCLUDED.accepted, rejected = nodes_workday.rejected + EXCLUDED.rejected,
    work_micro = nodes_workday.work_micro + EXCLUDED.work_micro, paid_micro = nodes_workday.paid_micro + EXCLUDED.paid_micro,
    due_on = EXCLUDED.due_on
"""

_TAKE_BACK: Final = """
UPDATE nodes_workday SET
    accepted = accepted - 1, work_micro = work_micro - %(work)s, paid_micro = paid_micro - %(paid)s, due_on = %(due_on)s
WHERE owner_id = %(owner)s AND day = %(day)s AND science = %(science)s
"""


@dataclass(frozen=True)
class JudgedWork:
    """One receipt that was judged. `work_micro` is in millionths of a TFLOP/s-hour; both amounts are 0 unless it was accepted."""

    owner_id: int
    science: str
    is_accepted: bool
    work_micro: int = 0
    paid_micro: int = 0


def work_record(works: Sequence[JudgedWork], *, at: datetime) -> None:
    """Adds them to their owners' day, in one statement, in the caller's transaction: whoever pays calls it, once for each payment.

    Rows are taken in one order, so that transactions wait for each other and don't deadlock.
    """
    if not works:
        return
    parameters: dict[str, Any] = {
        "day": at.date(),
        "owners": [work.owner_id for work in works],
        "sciences": [work.science for work in works],
        "accepted": [work.is_accepted for work in works],
        "work": [work.work_micro for work in works],
        "paid": [work.paid_micro for work in works],
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, parameters)


def work_take_back(work: JudgedWork, *, at: datetime) -> None:
    """Takes an accepted receipt, recorded at `at`, off its owner's day: whoever reverses its payment calls it, in that transaction."""
    parameters: dict[str, Any] = {
        "owner": work.owner_id,
        "day": at.date(),
        "science": work.science,
        "work": work.work_micro,
        "paid": work.paid_micro,
        "due_on": timezone.now().date(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_BACK, parameters)
