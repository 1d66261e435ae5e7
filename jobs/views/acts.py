"""What an owner does with jobs: cancel and archive (one, or those chosen in the list), run again, share. Each is a POST and a redirect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from jobs import selectors
from jobs.access import job_or_404
from jobs.descriptor import Visibility, descriptor_parse
from jobs.models import Job
from jobs.services.chosen import Outcome, jobs_archive, jobs_cancel, jobs_keep, jobs_let_go, jobs_unarchive
from jobs.services.retry import job_retry, label_free
from jobs.services.visibility import job_visibility_set
from jobs.states import JOB_OPEN
from jobs.submission.cost import job_cost
from jobs.views.job_list import PAGE_JOBS
from jobs.views.rows import job_rows
from jobs.views.submission import SUBMITTED_BEFORE
from people.page_users import user_of
from workers.protocol.problems import ProblemError

REFUSALS_TOLD: Final = 5


@dataclass(frozen=True)
class _Act:
    """`take` does it; `done` says so."""

    take: Callable[[list[Job]], Outcome]
    done: str


_ACTS: Final = {
    "cancel": _Act(lambda jobs: jobs_cancel(jobs=jobs), "cancelled: reservations went back, hosts are told to stop."),
    "archive": _Act(lambda jobs: jobs_archive(jobs=jobs), "put into the archive. Nothing was deleted."),
    "keep": _Act(lambda jobs: jobs_keep(jobs=jobs), "kept: results and inputs stay until you let them go."),
    "let_go": _Act(lambda jobs: jobs_let_go(jobs=jobs), "let go: results and inputs go when their time is over."),
    "unarchive": _Act(lambda jobs: jobs_unarchive(jobs=jobs), "back in the list."),
}


@require_POST
@never_cache
@login_required
def jobs_act(request: HttpRequest) -> HttpResponse:
    """Does `act` to each `job`. Cancelling is asked once more, on a page of its own. Leads back to the job, or to the list as it was."""
    owner, asked = user_of(request), request.POST
    jobs = selectors.jobs_named(owner=owner, job_ids=asked.getlist("job")[:PAGE_JOBS])
    act = _ACTS.get(asked.get("act", ""))
    back = _back_to(asked.get("from", ""), asked.get("back", ""), jobs)
    if act is None or not jobs:
        messages.add_message(request, messages.WARNING, "Nothing was chosen. Tick the jobs first, then say what to do.", "waiting")
        return HttpResponseRedirect(back)
    if asked.get("act") == "cancel" and asked.get("confirmed") != "yes":
        rows = job_rows([job for job in jobs if job.state in JOB_OPEN], names_shown=True)
        left_out = len(jobs) - len(rows)
        reserved_micro = sum(row.job.reserved_micro for row in rows)
        context = {"rows": rows, "left_out": left_out, "reserved_micro": reserved_micro, "back": back, "asked": asked}
        return render(request, "jobs/confirm.html", context)
    _tell(request, act.take(jobs), act.done)
    return HttpResponseRedirect(back)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def job_retry_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Asks for a label, and submits the same descriptor under it."""
    owner = user_of(request)
    job = job_or_404(owner=owner, job_id=job_id)
    label, wrong, status = request.POST.get("label", "").strip(), "", 200
    if request.method == "POST":
        try:
            made, created = job_retry(job=job, by=owner, label=label)
        except ProblemError as error:
            wrong, status = error.detail, error.status
        else:
            if not created:
                messages.info(request, SUBMITTED_BEFORE)
            return redirect("job-page", made.pk)
    cost = job_cost(descriptor_parse(job.descriptor))
    context = {
        "job": job,
        "label": label or label_free(job=job),
        "wrong": wrong,
        "reserved_micro": cost.reserved_micro,
        "expected_micro": cost.expected_micro,
    }
    return render(request, "jobs/retry.html", context, status=status)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def job_visibility_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Says who sees what, and changes it."""
    job = job_or_404(owner=user_of(request), job_id=job_id)
    wanted = request.POST.get("visibility", "")
    if request.method == "POST" and wanted in set(Visibility):
        job_visibility_set(job=job, visibility=Visibility(wanted))
        messages.add_message(request, messages.SUCCESS, f"{job.label} is {wanted} now.", "done")
        return redirect("job-visibility", job.pk)
    links = {
        Visibility.PRIVATE: "",
        Visibility.UNLISTED: reverse("job-shared", args=[job.link_secret]) if job.link_secret else "",
        Visibility.PUBLIC: reverse("job-page", args=[job.pk]),
    }
    path = links[Visibility(job.visibility)]
    return render(request, "jobs/visibility.html", {"job": job, "link": f"{settings.NEXA_ORIGIN}{path}" if path else "", "path": path})


def _back_to(origin: str, query: str, jobs: list[Job]) -> str:
    """The page of the one job, or the list with this query. Nowhere else, whatever is asked."""
    if origin == "job" and len(jobs) == 1:
        return reverse("job-page", args=[jobs[0].pk])
    kept = urlsplit(f"?{query}").query
    return reverse("jobs-page") + (f"?{kept}" if kept else "")


def _tell(request: HttpRequest, outcome: Outcome, done: str) -> None:
    if outcome.done:
        one = outcome.done[0].label if len(outcome.done) == 1 else f"{len(outcome.done)} jobs"
        messages.add_message(request, messages.SUCCESS, f"{one} {done}", "done")
    if outcome.refused:
        told = "; ".join(f"{job.label}: {error.detail}" for job, error in outcome.refused[:REFUSALS_TOLD])
        more = f" And {len(outcome.refused) - REFUSALS_TOLD} more." if len(outcome.refused) > REFUSALS_TOLD else ""
        messages.add_message(request, messages.WARNING, f"Not done: {told}{more}", "broken")
