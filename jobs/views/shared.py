"""The shared page of a job that its owner made public, or unlisted: title, type, tier, state, custody and verdict, and nothing else.

No label, no inputs, no results, no failure messages, no file names, no nodes, nobody's name. What is veiled for the owner is veiled here.
"""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs import selectors
from jobs.descriptor import Visibility
from jobs.models import Job
from jobs.views.custody_times import job_custody, running_times
from jobs.views.rows import sentence_of

_EVENTS_MAX = 500


@require_GET
@never_cache
def job_shared_page(request: HttpRequest, secret: str) -> HttpResponse:
    """The unlisted job whose link this is."""
    job = selectors.job_by_link(secret=secret)
    if job is None:
        raise Http404("No job is shared by this link, or not any more. Ask whoever gave it to you for a new one.")
    return shared_response(request, job)


def shared_response(request: HttpRequest, job: Job) -> HttpResponse:
    """The page. Search engines are asked to leave an unlisted one alone."""
    state = selectors.state_shown(job)
    replicas = selectors.replicas_of(job=job)
    events = selectors.events_of(job=job, after=0, limit=_EVENTS_MAX)
    context = {
        "job": job,
        "state": state,
        "shown": selectors.copies_shown(job),
        "custody": job_custody(job, state, replicas, running_times(events)),
        "sentence": sentence_of(job, state, names_shown=False),
    }
    response = render(request, "jobs/shared.html", context)
    if job.visibility == Visibility.UNLISTED:
        response["X-Robots-Tag"] = "noindex, nofollow"
    return response
