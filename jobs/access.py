"""Whose job it is: what every address of one job asks first, of the API and of pages."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404

from jobs import selectors
from jobs.models import Job
from people.models import User


def job_or_404(*, owner: User, job_id: UUID) -> Job:
    """The job if it is `owner`'s; another's is answered like what isn't there. Raises Http404."""
    job = selectors.job_of(owner=owner, job_id=job_id)
    if job is None:
        raise Http404("You have no job with this id.")
    return job
