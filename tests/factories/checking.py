"""Checks as a verify worker makes them, for tests that need their evidence."""

from __future__ import annotations

from uuid import UUID

from jobs.checking.making import jobs_check


def job_check(*, job_id: UUID) -> None:
    """Makes every check of the job's reported replicas that has not been made, in a child."""
    jobs_check(job_ids=[job_id])
