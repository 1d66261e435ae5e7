"""Moderators' pages of people. Secrets are not among the fields: only their hashes exist, and these stay hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from people.models import ApiToken, User
from people.services import researcher_approve, token_revoke

if TYPE_CHECKING:
    _TokenAdmin = admin.ModelAdmin[ApiToken]
else:
    _TokenAdmin = admin.ModelAdmin  # generic to the type checker only


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Django's page of users, and the approval of researchers."""

    list_display = ("username", "email", "is_staff", "researcher_approved_at")
    list_filter = ("is_staff", "is_superuser", "is_active", ("researcher_approved_at", admin.EmptyFieldListFilter))
    readonly_fields = ("researcher_approved_at", "last_login", "date_joined")
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Researcher", {"fields": ("researcher_approved_at",)}))
    actions = ["researchers_approve"]

    @admin.action(description="Approve as researchers, with the start grant", permissions=["change"])
    def researchers_approve(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        if not isinstance(request.user, User):
            raise TypeError("the admin has no anonymous users")
        for user in queryset:
            researcher_approve(user=user, approved_by=request.user)
        self.message_user(request, "Approved.", messages.SUCCESS)


@admin.register(ApiToken)
class ApiTokenAdmin(_TokenAdmin):
    """Tokens to look at and to revoke; they are minted by their owners only."""

    list_display = ("name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    search_fields = ("name", "owner__username")
    exclude = ("secret_sha256",)
    actions = ["tokens_revoke"]

    @admin.action(description="Revoke", permissions=["view"])
    def tokens_revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            token_revoke(token=token)
        self.message_user(request, "Revoked.", messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
