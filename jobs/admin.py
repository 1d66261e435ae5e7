"""Moderators' view of jobs. Jobs are looked at here, never changed: services do that. Image approvals are decided here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from jobs.errors import ImageMalformedError
from jobs.images import approval_name_parse
from jobs.models import ImageApproval, Job, Replica
from jobs.services.approvals import image_id_check, pull_check
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
class JobAdmin(ReadOnlyAdmin):
    list_display = ["label", "owner", "job_type", "tier", "state", "failure_code", "submitted_at", "concluded_at"]
    list_filter = ["state", "tier", "failure_code"]
    search_fields = ["label", "owner__username", "id"]
    list_select_related = ["owner"]


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin):
    list_display = ["id", "job", "node", "state", "verdict", "failure_code", "leased_at", "lease_expires_at"]
    list_filter = ["state", "tier", "verdict", "failure_code"]
    search_fields = ["id", "job__label", "node__name"]
    list_select_related = ["job", "node"]
    exclude = ["order_envelope"]


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
