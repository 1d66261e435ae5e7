"""A job's page for its owner, and the part of it that changes. Strangers get the shared page (shared.py) of a public job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs import answers, selectors
from jobs.blobs.references import result_kept_until
from jobs.descriptor import Visibility
from jobs.evidence.deviations import pairs_compared
from jobs.models import Job
from jobs.states import JOB_OPEN, JOB_TERMINAL, JobState
from jobs.views.custody_times import job_custody, running_times
from jobs.views.replicas import ReplicaColumn, event_rows, replica_columns
from jobs.views.rows import sentence_of
from jobs.views.shared import shared_response
from ledger.coordinator_key import coordinator_public_key
from people.models import User

PAGE_EVENTS: Final = 500


@require_GET
@never_cache
def job_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """One job of the caller, whole; of another's what anybody may see, if it is public."""
    job = _own_job(request, job_id)
    if job is not None:
        return render(request, "jobs/job.html", job_context(job))
    shared = selectors.job_shared(job_id=job_id)
    if shared is not None:
        return shared_response(request, shared)
    return _refused(request)


@require_GET
@never_cache
def job_fragment(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The part of a job's page that changes; the page fetches it again when something happened."""
    job = _own_job(request, job_id)
    return _refused(request) if job is None else render(request, "jobs/_live.html", job_context(job))


def job_context(job: Job) -> dict[str, Any]:
    """What the owner's page shows, by a number of statements that no number of replicas changes."""
    inputs = selectors.inputs_of(job=job)
    replicas = selectors.replicas_of(job=job)
    events = selectors.events_of(job=job, after=0, limit=PAGE_EVENTS)
    concluded = selectors.is_concluded(job)
    ran_at = running_times(events)
    detail = answers.detail_of(job, inputs)
    columns = replica_columns(job, replicas, ran_at)
    are_bytes_gone = concluded and selectors.is_result_gone(job=job, replicas=replicas)
    return {
        "job": job,
        "detail": detail,
        "is_open": JobState(job.state) in JOB_OPEN,
        "follows": _follows(JobState(job.state), columns),
        "is_concluded": concluded,
        "is_veiled": selectors.is_veiled(job),
        "can_be_archived": job.state in JOB_TERMINAL,
        "kept_until": result_kept_until(job),
        "are_bytes_gone": are_bytes_gone,
        "is_shared": job.visibility != Visibility.PRIVATE,
        "has_bundle": job.state == JobState.COMPLETED,
        "has_logs": any(column.has_log for column in columns) and not are_bytes_gone,
        "sentence": sentence_of(job, detail.state, names_shown=True),
        "custody": job_custody(job, detail.state, replicas, ran_at),
        "columns": columns,
        "pairs": pairs_compared([column.answer for column in columns]),
        "paid_micro": sum(replica.paid_micro for replica in replicas) if concluded else None,
        "events": event_rows(events, replicas),
        "coordinator_key_id": coordinator_public_key().key_id,
        "now": timezone.now(),
    }


def _follows(state: JobState, columns: Sequence[ReplicaColumn]) -> str:
    """What static/jobs/live.js has to wait for: the job (`yes`), a `ruling`, payments that are not in the `log` yet, or nothing (`no`)."""
    if state == JobState.DISPUTED:
        return "ruling"
    if state not in JOB_TERMINAL:
        return "yes"
    return "log" if any(column.is_to_be_logged for column in columns) else "no"


def _own_job(request: HttpRequest, job_id: UUID) -> Job | None:
    return selectors.job_of(owner=request.user, job_id=job_id) if isinstance(request.user, User) else None


def _refused(request: HttpRequest) -> HttpResponse:
    """Who isn't signed in may be the owner; everybody else has no such job."""
    if isinstance(request.user, User):
        raise Http404("You have no job with this id.")
    return redirect_to_login(request.get_full_path())
