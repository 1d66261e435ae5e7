"""Findings as rows of evidence: many in one statement. The first finding stands: who makes the same check again adds nothing."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from typing import Any, Final, Self

from django.db import DataError, IntegrityError, connection, transaction

from jobs.checking.documents import Finding

log = logging.getLogger(__name__)

ROWS_AT_ONCE: Final = 400
SECONDS_BETWEEN: Final = 2.0
"""Found this long ago: written, so that a worker that is killed has lost little."""
_OF_ITS_ROWS: Final = (DataError, IntegrityError, ValueError, RecursionError)
"""What a row itself is to blame for, here or in the database: no other row may be lost with it."""
_UNSTORABLE: Final = re.compile("\\\\u0000|[\ud800-\udfff]")
_INSERT: Final = """
    INSERT INTO jobs_evidence (replica_id, other_id, check_name, passed, code, detail, created_at)
    SELECT v.*, now() FROM jsonb_to_recordset(%s::jsonb)
        AS v(replica_id uuid, other_id uuid, check_name text, passed boolean, code text, detail jsonb)
    ON CONFLICT DO NOTHING
"""


class EvidenceWriter:
    """Writes what is found now and then, and the rest when its block is left, however that happens."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._written_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def add(self, findings: Sequence[Finding]) -> None:
        """Takes findings in, and writes them if there are many or the last were written long ago. Raises DatabaseError."""
        self._found += findings
        if len(self._found) >= ROWS_AT_ONCE or (self._found and time.monotonic() > self._written_at + SECONDS_BETWEEN):
            self.write()

    def write(self) -> None:
        """Writes what there is. Raises DatabaseError when the database is away; a row that it refuses is logged and left out."""
        found, self._found = self._found, []
        self._written_at = time.monotonic()
        if not found:
            return
        try:
            evidence_insert(found)
        except _OF_ITS_ROWS:
            for finding in found:
                try:
                    evidence_insert([finding])
                except _OF_ITS_ROWS:
                    log.exception("evidence of %s of replica %s can't be stored", finding.check_name, finding.replica_id)


def evidence_insert(findings: Sequence[Finding]) -> None:
    """One statement, in a transaction of its own. Raises DatabaseError."""
    rows = [
        {
            "replica_id": one.replica_id,
            "other_id": one.other_id,
            "check_name": one.check_name,
            "passed": one.passed,
            "code": one.code,
            "detail": one.detail,
        }
        for one in findings
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_INSERT, [_json(rows)])


def _json(rows: Any) -> str:
    """As PostgreSQL can store it: U+0000, and halves of surrogate pairs, which a stranger's file may hold, become U+FFFD."""
    text = json.dumps(rows, ensure_ascii=False, allow_nan=False)
    return json.dumps(_storable(rows), ensure_ascii=False, allow_nan=False) if _UNSTORABLE.search(text) else text


def _storable(value: Any) -> Any:
    match value:
        case str():
            return re.sub("[\0\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", value)
        case dict():
            return {_storable(name): _storable(inner) for name, inner in value.items()}
        case list():
            return [_storable(inner) for inner in value]
        case _:
            return value
