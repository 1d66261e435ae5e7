"""Whose page it is: what every page of jobs asks first."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest

from jobs import selectors
from jobs.models import Job
from people.models import User


def user_of(request: HttpRequest) -> User:
    """Who is signed in, on a page with `login_required`."""
    if not isinstance(request.user, User):
        raise TypeError("a page without login_required asked for the user")
    return request.user


def job_or_404(request: HttpRequest, job_id: UUID) -> Job:
    """The caller's job. Raises Http404."""
    job = selectors.job_of(owner=user_of(request), job_id=job_id)
    if job is None:
        raise Http404("You have no job with this id.")
    return job
