"""Evidence for the job's owner, after the conclusion: files of each replica, and what their compute logs tell of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs import selectors
from jobs.access import job_or_404
from jobs.blobs import blob_open
from jobs.evidence.deviations import letter_of
from jobs.evidence.files import CONTENT_TYPES, EvidenceName, evidence_file, evidence_names
from jobs.evidence.log_reading import Series, Tail, tail_read, usage_read
from jobs.evidence.sending import SentChunks
from jobs.models import Blob, Job, Replica
from people.page_users import user_of

RUNS_MAX: Final = 8
"""Logs that one page reads; a job has more only after many failures."""


@dataclass(frozen=True)
class Run:
    """What the log of one replica tells. `away`: it can't be read at the moment."""

    replica: Replica
    letter: str
    series: Series
    tail: Tail
    is_away: bool = False


@require_GET
@never_cache
@login_required
def job_evidence(request: HttpRequest, job_id: UUID, replica_id: UUID, name: str) -> HttpResponseBase:
    """One file, as a download. What a host wrote is hostile: it is saved, and never shown."""
    job = job_or_404(owner=user_of(request), job_id=job_id)
    found = evidence_file(job=job, replica_id=replica_id, name=EvidenceName(name)) if name in set(EvidenceName) else None
    if found is None:
        raise Http404("There is no such evidence, or it is hidden until the job is concluded.")
    headers = {
        "Content-Type": CONTENT_TYPES[found.name],
        "Content-Length": str(found.size_bytes),
        "Content-Disposition": f'attachment; filename="{replica_id}.{found.name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(SentChunks.of_file(found.file), headers=headers)


@require_GET
@never_cache
@login_required
def job_runs(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Usage over time and the end of the log of each replica whose log may be shown. The job's page asks htmx for the inner part."""
    job = job_or_404(owner=user_of(request), job_id=job_id)
    runs = runs_of(job)
    if not runs:
        raise Http404("This job has no log to show: it isn't concluded, nobody was paid for a result, or the time of its logs is over.")
    template = "jobs/_runs.html" if request.headers.get("HX-Request") else "jobs/runs.html"
    return render(request, template, {"job": job, "runs": runs, **_largest(runs)})


def runs_of(job: Job) -> list[Run]:
    """Reads the logs, each within bounds."""
    numbered = [(letter_of(number), replica) for number, replica in enumerate(selectors.replicas_of(job=job))]
    shown = [(letter, replica) for letter, replica in numbered if EvidenceName.LOG in evidence_names(replica, job=job)][:RUNS_MAX]
    logs = Blob.objects.in_bulk([replica.receipt.log_id for _, replica in shown])
    there = [(letter, replica, logs[replica.receipt.log_id]) for letter, replica in shown]
    return [_run_of(replica, letter, blob) for letter, replica, blob in there if blob.removed_at is None]


def _run_of(replica: Replica, letter: str, blob: Blob) -> Run:
    try:
        with closing(blob_open(blob)) as log:
            return Run(replica, letter, usage_read(log), tail_read(log))
    except OSError:
        return Run(replica, letter, Series(), Tail([], is_cut=False), is_away=True)


def _largest(runs: Sequence[Run]) -> dict[str, float]:
    """What the charts of all replicas have in common: on one scale, side by side, they can be compared."""
    return {
        "cores_max": max((value or 0 for run in runs for _, value in run.series.cores), default=0),
        "memory_max": max((value or 0 for run in runs for _, value in run.series.memory_gb), default=0),
    }
