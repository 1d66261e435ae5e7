"""Where the time of one job went: its way in marks, read afterwards from what everybody wrote down anyway.

Portal and host of a benchmark share one clock, so the coordinator's rows, the host's journal, the receipt and the compute log fit together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

_ROWS: Final = """
SELECT j.submitted_at, r.leased_at, r.lease_id::text, p.predicate, b.data AS log, p.received_at, j.concluded_at,
       (SELECT min(e.created_at) FROM jobs_evidence e WHERE e.replica_id = r.id) AS check_first_at,
       (SELECT max(e.created_at) FROM jobs_evidence e WHERE e.replica_id = r.id) AS check_last_at
FROM jobs_job j JOIN jobs_replica r ON r.job_id = j.id JOIN jobs_receipt p ON p.replica_id = r.id
JOIN jobs_blob b ON b.digest = p.log_id
WHERE j.id = %s AND r.state = 'accepted'
"""

STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "submit: request, checks, row": ("sent", "submitted"),
    "match: commit, wake, claim": ("submitted", "leased"),
    "deliver: sign, answer, journal": ("leased", "accepted"),
    "begin: queue, thread, work folder": ("accepted", "begun"),
    "prepare: inputs, image": ("begun", "image"),
    "create the container": ("image", "started"),
    "run: start, the program, its end": ("started", "finished"),
    "remove the container, archive": ("finished", "log_ended"),
    "sign, journal, receipt with log and archive": ("log_ended", "received"),
    "dispatch, first check": ("received", "check_first"),
    "other checks": ("check_first", "check_last"),
    "settle": ("check_last", "concluded"),
}
"""Stages in their order, each from one mark to the next."""


@dataclass(frozen=True)
class Journey:
    """The marks of one completed job of one replica, by name."""

    marks: Mapping[str, datetime]

    def seconds(self, begin: str, end: str) -> float:
        """From one mark to another."""
        return (self.marks[end] - self.marks[begin]).total_seconds()

    def stages(self) -> dict[str, float]:
        """Seconds of each of STAGES."""
        return {name: self.seconds(*span) for name, span in STAGES.items()}


def journey_read(job_id: str, *, sent_at: datetime, answered_at: datetime, database: psycopg.Connection[Any], journal: Path) -> Journey:
    """The journey of a completed job with little output: its log came along with the receipt, and is in the database.

    `sent_at`, `answered_at`: of its submission, at the client.
    """
    with database.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute(_ROWS, [job_id]).fetchone()
    if row is None:
        raise ValueError(f"job {job_id} has no accepted replica")
    with sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True) as connection:
        accepted, ended = connection.execute("SELECT accepted_at, ended_at FROM lease WHERE lease_id = ?", [row["lease_id"]]).fetchone()
    connection.close()
    lines = [json.loads(line) for line in bytes(row["log"]).splitlines()]
    marks = {
        "sent": sent_at,
        "answered": answered_at,
        "submitted": row["submitted_at"],
        "leased": row["leased_at"],
        "accepted": datetime.fromisoformat(accepted),
        "begun": _line_at(lines, "start"),
        "image": _line_at(lines, "image"),
        "started": datetime.fromisoformat(row["predicate"]["started_at"]),
        "finished": datetime.fromisoformat(row["predicate"]["finished_at"]),
        "log_ended": _line_at(lines, "end"),
        "received": row["received_at"],
        "check_first": row["check_first_at"],
        "check_last": row["check_last_at"],
        "concluded": row["concluded_at"],
        "over": datetime.fromisoformat(ended),
    }
    return Journey(marks)


def _line_at(lines: list[dict[str, Any]], name: str) -> datetime:
    return next(datetime.fromisoformat(line["at"]) for line in lines if name in {line["kind"], line.get("name")})
