"""The page of the admin on which a moderator rules on a dispute, and the downloads that belong to it."""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from jobs.blobs import blob_open
from jobs.disputes.sheets import DisputeSheet, blob_of, dispute_sheet
from jobs.evidence.sending import SentChunks
from jobs.models import Job, Replica
from jobs.services.disputes import REASON_CHARACTERS_MAX, dispute_rule, ruling_check
from jobs.states import JobState
from people.models import User
from people.moderation.pages import LookAdmin
from people.moderation.trail import lacks_second_factor
from workers.protocol.problems import ProblemError

NONE: Final = "none"


class RulingForm(forms.Form):
    """Which result stands, and why."""

    canonical = forms.ChoiceField(widget=forms.RadioSelect, label="The result that stands")
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}), max_length=REASON_CHARACTERS_MAX, label="Why", help_text="The job's owner reads this."
    )

    def __init__(self, sheet: DisputeSheet, *args: Any) -> None:
        super().__init__(*args)
        valid = [(str(one.id), f"{one.letter} ({one.node}), and what agrees with it") for one in sheet.replicas if one.may_be_upheld]
        canonical = self.fields["canonical"]
        if not isinstance(canonical, forms.ChoiceField):
            raise TypeError("the field of choices is another one")
        canonical.choices = [*valid, (NONE, "none of them: the job fails, nobody is paid, the reservation goes back")]


class DisputeAdmin(LookAdmin):
    """Adds the page of a dispute to an admin of jobs."""

    @admin.display(description="dispute", empty_value="")
    def dispute_link(self, job: Job) -> str | None:
        """A link to the page of the dispute, where there is one."""
        if job.state != JobState.DISPUTED:
            return None
        return format_html('<a href="{}">until {}</a>', dispute_path(job), f"{job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        page = require_http_methods(["GET", "POST"])(never_cache(self.dispute_page))
        download = require_GET(never_cache(self.dispute_download))
        return [
            path("<uuid:job_id>/dispute/", wrap(page), name="jobs_job_dispute"),
            path(
                "<uuid:job_id>/dispute/<uuid:replica_id>/archive", wrap(partial(download, name="archive")), name="jobs_job_dispute_archive"
            ),
            path("<uuid:job_id>/dispute/<uuid:replica_id>/log", wrap(partial(download, name="log")), name="jobs_job_dispute_log"),
            *super().get_urls(),
        ]

    def dispute_page(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """The sheet and the form; a ruling that is taken leads back to the job."""
        job, moderator = _permitted(request, job_id)
        sheet = dispute_sheet(job=job)
        form = RulingForm(sheet, request.POST) if request.method == "POST" else RulingForm(sheet)
        if request.method == "POST" and form.is_valid() and self._rule(request, job, moderator, form):
            return HttpResponseRedirect(reverse("admin:jobs_job_change", args=[job.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Dispute over {job.label}",
            "opts": self.model._meta,
            "sheet": sheet,
            "form": form if job.state == JobState.DISPUTED else None,
            "is_refused": lacks_second_factor(moderator),
        }
        return render(request, "admin/jobs/dispute.html", context)

    def dispute_download(self, request: HttpRequest, job_id: UUID, replica_id: UUID, *, name: str) -> HttpResponseBase:
        """The bytes as the host sent them: hostile, so they are saved and never shown."""
        job, _ = _permitted(request, job_id)
        digest = blob_of(job=job, replica_id=replica_id, name=name)
        if digest is None:
            raise Http404("This job has no such receipt.")
        ending = "tar" if name == "archive" else "jsonl"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{replica_id}.{ending}"',
            "Cache-Control": "private, no-store",
        }
        return StreamingHttpResponse(SentChunks.of_file(blob_open(digest)), headers=headers)

    def _rule(self, request: HttpRequest, job: Job, moderator: User, form: RulingForm) -> bool:
        chosen, reason = form.cleaned_data["canonical"], form.cleaned_data["reason"]
        canonical = None if chosen == NONE else Replica.objects.get(pk=chosen, job=job)
        try:
            dispute_rule(job=job, by=moderator, canonical=canonical, reason=reason)
        except ProblemError as error:
            form.add_error(None, error.detail)
            return False
        messages.success(request, "The dispute is ended.", extra_tags="done")
        return True


def dispute_path(job: Job) -> str:
    """Where moderators rule on the job."""
    return reverse("admin:jobs_job_dispute", args=[job.pk])


def _permitted(request: HttpRequest, job_id: UUID) -> tuple[Job, User]:
    """The job, if it is or was disputed and the caller may rule on it: nobody else sees what hosts delivered. Raises PermissionDenied."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None or not isinstance(request.user, User):
        raise Http404("There is no such job.")
    try:
        ruling_check(job=job, by=request.user)
    except ProblemError as error:
        raise PermissionDenied(error.detail) from error
    if job.dispute_deadline_at is None:
        raise Http404("This job was never disputed.")
    return job, request.user
