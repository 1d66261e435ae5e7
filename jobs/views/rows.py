"""Rows of lists of jobs: the owner's, the home page's, and those that a page asks for again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import Count, Q

from jobs import selectors
from jobs.evidence.custody import Mark, Progress, job_line, verdict_sentence
from jobs.models import Job, Replica
from jobs.states import JOB_TERMINAL, REPLICA_VOTES, JobState

VERSION_DIGITS: Final = 8
_RECEIPT_COUNTS: Final = [state.value for state in REPLICA_VOTES]


@dataclass(frozen=True)
class JobRow:
    """A job in a list, with its state as it may be shown, its custody and its verdict in words."""

    job: Job
    state: JobState
    custody: list[Mark]
    sentence: str
    is_chosen: bool = False
    """Its box is ticked."""

    @property
    def may_change(self) -> bool:
        return self.state not in JOB_TERMINAL

    @property
    def version(self) -> str:
        """Changes when what the row shows does; times that grow by themselves apart."""
        shown = [self.state, self.sentence, *(f"{mark.state}" for mark in self.custody)]
        return hashlib.sha256("\n".join(shown).encode()).hexdigest()[:VERSION_DIGITS]


def job_rows(jobs: Sequence[Job], *, names_shown: bool, chosen: frozenset[str] = frozenset()) -> list[JobRow]:
    """One statement, however many jobs. `chosen`: ids of those whose boxes are ticked."""
    unveiled = [job.pk for job in jobs if not selectors.is_veiled(job)]
    counted = (
        Replica.objects.filter(job__in=unveiled)
        .values("job")
        .annotate(
            leased=Count("pk", filter=Q(leased_at__isnull=False)),
            receipts=Count("receipt", filter=Q(state__in=_RECEIPT_COUNTS)),
        )
    )
    progress = {row["job"]: Progress(leased=row["leased"], receipts=row["receipts"]) for row in counted} if unveiled else {}
    rows = []
    for job in jobs:
        state = selectors.state_shown(job)
        line = job_line(state=state, quorum=job.quorum, progress=progress.get(job.pk) or progress_shown(job, state))
        rows.append(JobRow(job, state, line, sentence_of(job, state, names_shown=names_shown), str(job.pk) in chosen))
    return rows


def progress_shown(job: Job, state: JobState) -> Progress:
    """Of a veiled job: taken or not."""
    return Progress(leased=int(selectors.is_veiled(job) and state != JobState.QUEUED))


def sentence_of(job: Job, state: JobState, *, names_shown: bool) -> str:
    """What became of it. `state`: as it may be shown."""
    return verdict_sentence(
        state=state,
        quorum=selectors.copies_shown(job).quorum,
        summary=job.verdict_summary,
        failure_message=job.failure_message,
        names_shown=names_shown,
    )
