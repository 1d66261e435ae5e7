"""Moderators' view of jobs, which are looked at here and never changed. Disputes, breakers and image approvals are decided here.

What is hidden from everyone until a job is concluded is hidden from moderators too, where they may have an interest: an open job of theirs,
or one that a node of theirs runs, is not in these lists. Spot keys are on no page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest

from jobs.descriptor import RedundancyPolicy
from jobs.disputes.admin import DisputeAdmin
from jobs.errors import ImageMalformedError
from jobs.finding import jobs_by_id, jobs_of_people, jobs_with_words, replicas_by_id, replicas_of_nodes
from jobs.models import ImageApproval, ImageBreaker, ImageRequest, Job, Replica, Ruling
from jobs.selectors import is_concluded
from jobs.services.approvals import image_approve, image_id_check, image_withdraw, pull_check
from jobs.services.breakers import breaker_open
from jobs.services.image_requests import image_request_approve, image_request_decline
from jobs.states import JOB_TERMINAL
from jobs.submission.images import approval_name_parse
from people.moderation.pages import ActPage, LookAdmin, ReasonForm, filter_among, filter_named
from workers.protocol.messages.machine import Tier


@admin.register(Job)
class JobAdmin(DisputeAdmin):
    says = "Everybody's jobs, but for open ones in which you have an interest."
    list_display = ["label", "owner", "job_type", "tier", "state", "dispute_link", "failure_code", "submitted_at", "concluded_at"]
    list_filter = ["state", filter_among("tier", list(Tier)), filter_among("policy", list(RedundancyPolicy))]
    finders = (jobs_by_id, jobs_with_words, jobs_of_people)
    search_help_text = "id, words of label or title, owner's whole name or e-mail"
    list_select_related = ["owner"]
    ordering = ["-id"]  # which begins with the time of submission, and has an index
    fields = (
        "label", "owner", "title", "job_type", "tier", "state", "dispute_link", "submitted_at", "concluded_at", "queue_deadline_at",
        "policy", "copies", "quorum", "replicas_max", "spot_chosen", "failure_code", "failure_message", "verdict_summary",
        "canonical_replica", "visibility", "image", "descriptor_digest", "descriptor",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        interested = Q(owner=request.user.pk) | Exists(Replica.objects.filter(job=OuterRef("pk"), node_owner=request.user.pk))
        return super().get_queryset(request).exclude(interested & ~Q(state__in=JOB_TERMINAL))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Of a `spot` job, the draw and what follows from it are shown once it is concluded."""
        hidden = obj is not None and obj.policy == RedundancyPolicy.SPOT and not is_concluded(obj)
        return [field for field in self.fields if not (hidden and field in {"spot_chosen", "copies", "quorum"})]


@admin.register(Replica)
class ReplicaAdmin(LookAdmin):
    says = "Attempts at jobs, by node."
    list_display = ["id", "job", "node", "state", "verdict", "failure_code", "leased_at", "lease_expires_at"]
    list_filter = ["state", filter_among("tier", list(Tier)), filter_among("verdict", ["agree", "disagree", "invalid", "undecided"])]
    finders = (replicas_by_id, replicas_of_nodes)
    search_help_text = "its id, its job's, its node's, or how the node's name begins"
    list_select_related = ["job", "node"]
    ordering = ["-job_id", "-created_at"]  # of jobs, which have an index
    fields = (
        "id", "job", "node", "node_owner", "node_key", "state", "tier", "created_at", "leased_at", "lease_expires_at", "deadline_at",
        "order_digest", "cancel_reason", "verdict", "paid_micro", "failure_code", "failure_message", "concluded_at",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replica]:
        interested = Q(job__owner=request.user.pk) | Exists(Replica.objects.filter(job=OuterRef("job"), node_owner=request.user.pk))
        return super().get_queryset(request).exclude(interested & ~Q(job__state__in=JOB_TERMINAL))


@admin.register(Ruling)
class RulingAdmin(LookAdmin):
    says = "How disputes ended, and spot checks without a host. A ruling is given on the page of its dispute, and never changed."
    list_display = ("job", "by", "canonical", "made_at")
    search_fields = ("job__label", "by__username", "reason")
    list_select_related = ("job", "by", "canonical")
    ordering = ("-made_at",)
    fields = ("job", "by", "canonical", "reason", "made_at")


@admin.register(ImageBreaker)
class ImageBreakerAdmin(LookAdmin):
    says = "Images whose runs kept failing. Their jobs wait, for twice as long each time, rather than fail."
    list_display = ("image_name", "code", "times", "closed_at", "closed_until")
    search_fields = ("image_name",)
    ordering = ("-closed_until",)
    acts = (
        ActPage(
            name="open",
            label="Give its jobs out again",
            says=(
                "Opens the breaker now, and forgets how often it was closed. Do it once what made the runs fail is mended.",
                "If they go on failing, it closes again by itself.",
            ),
            run=lambda by, row, data: breaker_open(image_name=row.image_name, by=by, reason=data["reason"]),
            done="its jobs are given out again.",
            returns_to_list=True,
        ),
    )


class PinForm(ReasonForm):
    """What an image is pinned to. The same checks as `manage.py image_approve`."""

    pull = forms.CharField(
        max_length=400, required=False, label="Pulled as", help_text="name@sha256:… in a registry: what the tag is pinned to."
    )
    image_id = forms.CharField(
        max_length=71, required=False, label="Image id", help_text="sha256:… of an image that hosts have loaded by hand."
    )
    field_order: Sequence[str] | None = ("pull", "image_id", "reason")

    def clean_pull(self) -> str:
        return self._checked("pull", pull_check)

    def clean_image_id(self) -> str:
        return self._checked("image_id", image_id_check)

    def _checked(self, field: str, check: Callable[[str], str]) -> str:
        try:
            return check(self.cleaned_data[field])
        except ImageMalformedError as error:
            raise ValidationError(error.detail, code=error.code) from error


class ApprovalForm(PinForm):
    """Which image, and what it is pinned to."""

    name = forms.CharField(max_length=255, label="Image", help_text="registry/name, or registry/name:tag, as descriptors name it.")
    field_order = ("name", "pull", "image_id", "reason")

    def clean_name(self) -> str:
        return self._checked("name", approval_name_parse)


@admin.register(ImageRequest)
class ImageRequestAdmin(LookAdmin):
    says = "Images that researchers ask for, open requests first. What was asked and decided is never edited."
    list_display = ("name", "asked_by", "asked_at", "is_approved", "decided_at")
    list_filter = (("is_approved", filter_named(admin.BooleanFieldListFilter, "state", "all", "approved", "declined", "open")),)
    search_fields = ("name", "asked_by__username")
    list_select_related = ("asked_by",)
    fields = ("name", "asked_by", "asked_at", "purpose", "is_approved", "decided_at", "reason")
    acts = (
        ActPage(
            name="approve",
            label="Approve the image",
            says=(
                "Lets every researcher run this image on every host that wants such work, and tells all who asked for it.",
                "Look at what is in it first, and pin it to that: a tag that nobody pinned is refused at submission.",
            ),
            form=PinForm,
            run=lambda by, row, data: image_request_approve(
                request=row, by=by, pull=data["pull"], image_id=data["image_id"], reason=data["reason"]
            ),
            applies=lambda row: row.is_approved is None,
            done="approved; who asked for it is told.",
            returns_to_list=True,
        ),
        ActPage(
            name="decline",
            label="Decline",
            says=("Tells who asked why not. They may ask again.",),
            run=lambda by, row, data: image_request_decline(request=row, by=by, reason=data["reason"]),
            applies=lambda row: row.is_approved is None,
            done="declined; who asked for it is told why.",
            is_grave=True,
            returns_to_list=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ImageRequest]:
        return super().get_queryset(request).order_by(F("decided_at").desc(nulls_first=True), "asked_at")


@admin.register(ImageApproval)
class ImageApprovalAdmin(LookAdmin):
    says = "What researchers may run, by name, pinned to content."
    list_display = ("name", "pull", "image_id", "approved_by", "approved_at")
    search_fields = ("name",)
    list_select_related = ("approved_by",)
    ordering = ("name",)
    fields = ("name", "pull", "image_id", "approved_by", "approved_at")
    acts = (
        ActPage(
            name="approve",
            label="Approve an image",
            says=(
                "Lets every researcher run this image on every host that wants such work. Look at what is in it first.",
                "Pin it: a tag that nobody pinned is refused at submission. Approved again under the same name, the pin is replaced.",
            ),
            form=ApprovalForm,
            run=lambda by, row, data: image_approve(
                name=data["name"], pull=data["pull"], image_id=data["image_id"], by=by, reason=data["reason"]
            ),
            done="The image is approved.",
            of_list=True,
        ),
        ActPage(
            name="withdraw",
            label="Withdraw the approval",
            says=(
                "No job with this image is submitted from now on.",
                "Jobs that were submitted go on: they are pinned to what was approved then. Their owners can cancel them.",
            ),
            run=lambda by, row, data: image_withdraw(approval=row, by=by, reason=data["reason"]),
            done="withdrawn.",
            is_grave=True,
            returns_to_list=True,
        ),
    )
