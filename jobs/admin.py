"""Moderators' view of jobs, which are looked at here and never changed. Disputes, breakers and image approvals are decided here.

What is hidden from everyone until a job is concluded is hidden from moderators too, where they may have an interest: an open job of theirs,
or one that a node of theirs runs, is not in these lists. Spot keys are on no page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest

from jobs.descriptor import RedundancyPolicy
from jobs.dispute_admin import DisputeAdmin
from jobs.errors import ImageMalformedError
from jobs.images import approval_name_parse
from jobs.models import ImageApproval, ImageBreaker, Job, Replica, Ruling
from jobs.selectors import is_concluded
from jobs.services.approvals import image_id_check, pull_check
from jobs.services.breakers import breaker_open
from jobs.states import JOB_TERMINAL
from people.models import User


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Nothing can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(DisputeAdmin, ReadOnlyAdmin):
    list_display = ["label", "owner", "job_type", "tier", "state", "dispute_link", "failure_code", "submitted_at", "concluded_at"]
    list_filter = ["state", "tier", "policy", "failure_code"]
    search_fields = ["label", "owner__username", "id"]
    list_select_related = ["owner"]
    readonly_fields = ["dispute_link"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        interested = Q(owner=request.user.pk) | Exists(Replica.objects.filter(job=OuterRef("pk"), node_owner=request.user.pk))
        return super().get_queryset(request).exclude(interested & ~Q(state__in=JOB_TERMINAL))

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Of a `spot` job, the draw and what follows from it are shown once it is concluded."""
        hidden = obj is not None and obj.policy == RedundancyPolicy.SPOT and not is_concluded(obj)
        return ["spot_key", "spot_chosen", "copies", "quorum"] if hidden else []


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin):
    list_display = ["id", "job", "node", "state", "verdict", "failure_code", "leased_at", "lease_expires_at"]
    list_filter = ["state", "tier", "verdict", "failure_code"]
    search_fields = ["id", "job__label", "node__name"]
    list_select_related = ["job", "node"]
    exclude = ["order_envelope"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replica]:
        interested = Q(job__owner=request.user.pk) | Exists(Replica.objects.filter(job=OuterRef("job"), node_owner=request.user.pk))
        return super().get_queryset(request).exclude(interested & ~Q(job__state__in=JOB_TERMINAL))


@admin.register(Ruling)
class RulingAdmin(ReadOnlyAdmin):
    """Given on the page of the dispute, and never changed."""

    list_display = ["job", "by", "canonical", "made_at"]
    search_fields = ["job__label", "by__username", "reason"]
    list_select_related = ["job", "by", "canonical"]


@admin.register(ImageBreaker)
class ImageBreakerAdmin(ReadOnlyAdmin):
    """Images whose runs kept failing."""

    list_display = ["image_name", "code", "times", "closed_at", "closed_until"]
    search_fields = ["image_name"]
    actions = ["breakers_open"]

    def has_open_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.delete_imagebreaker")

    @admin.action(description="Open: give its jobs out again now", permissions=["open"])
    def breakers_open(self, request: HttpRequest, queryset: QuerySet[ImageBreaker]) -> None:
        for breaker in queryset:
            self.log_change(request, breaker, "Opened.")
            breaker_open(image_name=breaker.image_name)
        self.message_user(request, "Opened.", messages.SUCCESS)


class ImageApprovalForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """The same checks as `manage.py image_approve`."""

    class Meta:
        model = ImageApproval
        fields: ClassVar = ["name", "pull", "image_id"]

    def clean_name(self) -> str:
        return self._checked("name", approval_name_parse)

    def clean_pull(self) -> str:
        return self._checked("pull", pull_check)

    def clean_image_id(self) -> str:
        return self._checked("image_id", image_id_check)

    def _checked(self, field: str, check: Callable[[str], str]) -> str:
        try:
            return check(self.cleaned_data[field])
        except ImageMalformedError as error:
            raise ValidationError(error.detail, code=error.code) from error


@admin.register(ImageApproval)
class ImageApprovalAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    form = ImageApprovalForm
    list_display = ["name", "pull", "image_id", "approved_by", "approved_at"]
    search_fields = ["name"]

    def save_model(self, request: HttpRequest, obj: ImageApproval, form: Any, change: bool) -> None:
        if isinstance(request.user, User):
            obj.approved_by = request.user
        super().save_model(request, obj, form, change)
