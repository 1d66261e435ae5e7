"""The custody line of a job's page: when each mark was reached, how long after the one before, and by what evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from jobs import selectors
from jobs.evidence.custody import Mark, Progress, job_line
from jobs.models import Job, JobEvent, Replica
from jobs.states import REPLICA_VOTES, JobState
from jobs.views.rows import progress_shown
from workers.protocol.plurals import counted


def job_custody(job: Job, state: JobState, replicas: Sequence[Replica], ran_at: dict[UUID, datetime]) -> list[Mark]:
    """The job's line with times and evidence; of a veiled one only that it was taken. `state`: as shown. `replicas`: those that are."""
    shown = selectors.copies_shown(job)
    copies = f"{shown.copies} copies, {shown.quorum} must agree" if shown.copies > 1 else "1 copy"
    leased = [replica.leased_at for replica in replicas if replica.leased_at]
    if selectors.is_veiled(job):
        times = [job.submitted_at, min(leased, default=None)]
        return job_line(state=state, quorum=shown.quorum, progress=progress_shown(job, state), times=times, notes=[copies])
    received = sorted(replica.receipt.received_at for replica in replicas if replica.state in REPLICA_VOTES and hasattr(replica, "receipt"))
    completed = job.state == JobState.COMPLETED
    paid = [replica for replica in replicas if replica.paid_micro]
    notes = [
        copies,
        counted(len(leased), "lease") if leased else "",
        f"{len(ran_at)} started" if ran_at else "",
        counted(len(received), "receipt") if received else "",
        f"{(job.verdict_summary or {}).get('agreeing', 0)} agree" if completed else "",
        counted(len(paid), "payment") if completed else "",
    ]
    ended_at = job.concluded_at
    return job_line(
        state=JobState(job.state),
        quorum=job.quorum,
        progress=Progress(leased=len(leased), receipts=len(received)),
        times=[job.submitted_at, min(leased, default=None), min(ran_at.values(), default=None), *received[-1:], *[ended_at] * 2]
        if received
        else [job.submitted_at, min(leased, default=None), min(ran_at.values(), default=ended_at)],
        notes=notes,
    )


def running_times(events: Sequence[JobEvent]) -> dict[UUID, datetime]:
    """When each replica's container started, as far as these events tell."""
    return {event.replica_id: event.created_at for event in events if event.kind == "replica.running" and event.replica_id}
