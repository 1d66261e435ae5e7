"""What an owner does to jobs that they chose from their list: each is done or refused by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import JobOpenError
from jobs.models import Job
from jobs.services.submission import job_cancel
from jobs.states import JOB_TERMINAL
from workers.protocol.problems import ProblemError


@dataclass(frozen=True)
class Outcome:
    """`done` jobs, and those that were `refused` with why."""

    done: list[Job]
    refused: list[tuple[Job, ProblemError]]


def jobs_cancel(*, jobs: Sequence[Job]) -> Outcome:
    """`job_cancel` of each, in a transaction of its own."""
    outcome = Outcome([], [])
    for job in jobs:
        try:
            outcome.done.append(job_cancel(job=job))
        except ProblemError as error:
            outcome.refused.append((job, error))
    return outcome


def jobs_archive(*, jobs: Sequence[Job]) -> Outcome:
    """Puts ended jobs out of their owner's list. Nothing is deleted, and `jobs_unarchive` brings them back. Refused: JobOpenError."""
    ended = [job for job in jobs if job.state in JOB_TERMINAL]
    Job.objects.filter(pk__in=[job.pk for job in ended]).update(is_archived=True)
    refusal = "It stays in your list until it has ended. Cancel it first, or wait."
    return Outcome(ended, [(job, JobOpenError(refusal)) for job in jobs if job.state not in JOB_TERMINAL])


def jobs_unarchive(*, jobs: Sequence[Job]) -> Outcome:
    """Brings jobs back into their owner's list."""
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(is_archived=False)
    return Outcome(list(jobs), [])


def jobs_keep(*, jobs: Sequence[Job]) -> Outcome:
    """Keeps inputs and accepted results beyond NEXA_RESULT_DAYS. What is gone stays gone. They count against their owner's storage."""
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(is_kept=True)
    return Outcome(list(jobs), [])


def jobs_let_go(*, jobs: Sequence[Job]) -> Outcome:
    """Ends `jobs_keep`: what has had its time is collected."""
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(is_kept=False)
    return Outcome(list(jobs), [])
