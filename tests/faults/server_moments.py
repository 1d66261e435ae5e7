"""Moments in the life of a receipt, on the coordinator: the one table of where they are. A function is named where it is looked up."""

from __future__ import annotations

from typing import Final

from tests.faults.moments import Moment

MOMENT_VARIABLE: Final = "NEXA_FAULTS_MOMENT"
"""In the environment of the coordinator's processes: the file in which the next moment is written."""

HEADER: Final = {
    "before any evidence": Moment("jobs.tasks:jobs_check"),
    "between two pieces of evidence": Moment("jobs.checking.evidence:evidence_insert", after=True),
    "after the last evidence, not counted": Moment("jobs.tasks:jobs_check", after=True, count=2),
}
"""In the verify worker, with two jobs in the batch."""

BODY: Final = {
    "before the first job": Moment("jobs.services.settlement:_slice_settle"),
    "postings written, not committed": Moment("jobs.services.conclusion:movements_post", after=True),
    "between two jobs": Moment("jobs.services.settlement:_slice_settle", after=True),
    "after the last job, the batch still there": Moment("jobs.models:VerificationBatch.delete"),
}
"""In the conclude worker, with two jobs in the batch, each a slice of its own."""

RECEIPT: Final = {
    "receipt written, not committed": Moment("jobs.services.receipts:_reported", after=True),
    "receipt committed, not answered": Moment("jobs.gateway.receipts:receipts_accept", after=True),
}
"""In the web process."""

SERVER_MOMENTS: Final = {**HEADER, **BODY, **RECEIPT}
