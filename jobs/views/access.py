"""Whose page it is: what every page of jobs asks first."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest

from jobs import selectors
from jobs.models import Job
from people.page_users import user_of


def job_or_404(request: HttpRequest, job_id: UUID) -> Job:
    """The caller's job. Raises Http404."""
    job = selectors.job_of(owner=user_of(request), job_id=job_id)
    if job is None:
        raise Http404("You have no job with this id.")
    return job
