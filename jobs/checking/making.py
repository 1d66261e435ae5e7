"""A header's work: the checks of a slice of jobs, out of the database, through a child, into evidence. Holds no key, moves no state.

A check that fails is evidence. One that can't be made (the store is away, no child can be started) writes nothing and is made again.
CHECK_PATIENCE after the receipt it fails as `check_impossible`, so that no job waits for ever for a check of ours. One at whose bytes the
program fails fails at once, as where bytes kill it: it would fail again, and who knows such bytes could keep others waiting for their pay.
The log of this process says why.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from jobs.checking.children import child_server, outcomes
from jobs.checking.codes import CHECK_CRASHED, CHECK_IMPOSSIBLE
from jobs.checking.documents import Finding, Outcome, Unmade, failure_findings
from jobs.checking.evidence import EvidenceWriter
from jobs.checking.reading import JobToCheck, jobs_read

CHECK_PATIENCE: Final = timedelta(hours=6)

log = logging.getLogger(__name__)


def jobs_check(*, job_ids: Sequence[UUID]) -> None:
    """Makes every check of the jobs' reported replicas that has not been made. Idempotent. Raises DatabaseError."""
    server = child_server(settings.NEXA_CHECK_MEMORY_BYTES)
    with EvidenceWriter() as evidence, closing(outcomes(server, jobs_read(job_ids))) as found:
        for job, of_piece in found:
            for outcome in of_piece:
                evidence.add(_findings(job, outcome))


def _findings(job: JobToCheck, outcome: Outcome) -> list[Finding]:
    match outcome:
        case Finding():
            return [outcome]
        case Unmade():
            log.error(
                "the check %s of replica %s was not made: %s\n%s",
                outcome.check_name,
                " and ".join(filter(None, (outcome.replica_id, outcome.other_id))),
                outcome.error,
                outcome.trace,
            )
            if outcome.by_bytes:
                return _failed_findings(outcome, code=CHECK_CRASHED, message=f"The program that reads it failed: {outcome.error}.")
            return _impossible_findings(job, outcome)


def _impossible_findings(job: JobToCheck, unmade: Unmade) -> list[Finding]:
    """None while there is patience."""
    concerned = [replica_id for replica_id in (unmade.replica_id, unmade.other_id) if replica_id is not None]
    if any(job.received_at[replica_id] + CHECK_PATIENCE >= timezone.now() for replica_id in concerned):
        return []
    return _failed_findings(unmade, code=CHECK_IMPOSSIBLE, message=f"The portal could not make this check: {unmade.error}.")


def _failed_findings(unmade: Unmade, *, code: str, message: str) -> list[Finding]:
    if unmade.other_id is None:
        return failure_findings(unmade.replica_id, unmade.check_name, code=code, message=message)
    detail = {"message": message, "worst": None}
    return [Finding(unmade.replica_id, unmade.check_name, passed=False, code=code, detail=detail, other_id=unmade.other_id)]
