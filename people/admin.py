"""Moderators' pages of people. Secrets are not among the fields: only their hashes exist, and these stay hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from people.models import ApiToken, ApplicationState, ResearcherApplication, Team, TeamMember, User
from people.services import application_decide, researcher_approve, token_revoke
from workers.protocol.problems import ProblemError

if TYPE_CHECKING:
    _TokenAdmin = admin.ModelAdmin[ApiToken]
    _ApplicationAdmin = admin.ModelAdmin[ResearcherApplication]
    _TeamAdmin = admin.ModelAdmin[Team]
    _MemberInline = admin.TabularInline[TeamMember, Team]
else:
    _TokenAdmin = _ApplicationAdmin = _TeamAdmin = admin.ModelAdmin  # generic to the type checker only
    _MemberInline = admin.TabularInline


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Django's page of users, and the approval of researchers."""

    list_display = ("username", "email", "is_staff", "researcher_approved_at")
    list_filter = ("is_staff", "is_superuser", "is_active", ("researcher_approved_at", admin.EmptyFieldListFilter))
    readonly_fields = ("researcher_approved_at", "last_login", "date_joined")
    fieldsets = (
        *(DjangoUserAdmin.fieldsets or ()),
        ("Researcher", {"fields": ("researcher_approved_at",)}),
        ("Profile", {"fields": ("display_name", "about", "is_public")}),
    )
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


class DecisionForm(forms.Form):
    """What the moderator tells the applicant."""

    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4, "cols": 80}),
        max_length=2000,
        required=False,
        label="To the applicant",
        help_text="Needed to decline. It is in the mail that tells them, and on their page.",
    )


@admin.register(ResearcherApplication)
class ResearcherApplicationAdmin(_ApplicationAdmin):
    """Applications to read and to decide on: open ones first. What was written and decided is never edited."""

    list_display = ("full_name", "affiliation", "applicant", "state", "created_at", "decided_by")
    list_filter = ("state",)
    search_fields = ("full_name", "affiliation", "applicant__username", "applicant__email")
    list_select_related = ("applicant", "decided_by")
    change_form_template = "admin/people/researcherapplication/decide.html"
    fields = ("applicant", "full_name", "affiliation", "purpose", "link", "created_at", "state", "reason", "decided_at", "decided_by")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ResearcherApplication]:
        return super().get_queryset(request).order_by(F("decided_at").desc(nulls_first=True), "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return tuple(self.fields)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        application = self.get_object(request, object_id)
        if application is None:
            return HttpResponseRedirect(reverse("admin:people_researcherapplication_changelist"))
        if request.method == "POST" and self.has_change_permission(request, application):
            return self._decide(request, application)
        is_open = application.state == ApplicationState.OPEN
        context = {"decision": DecisionForm() if is_open else None, "title": f"{application.full_name}: {application.get_state_display()}"}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def _decide(self, request: HttpRequest, application: ResearcherApplication) -> HttpResponse:
        if not isinstance(request.user, User):
            raise TypeError("the admin has no anonymous users")
        form = DecisionForm(request.POST)
        here = reverse("admin:people_researcherapplication_change", args=[application.pk])
        if not form.is_valid():
            self.message_user(request, "The reason is too long; it was not sent.", messages.ERROR)
            return HttpResponseRedirect(here)
        try:
            application_decide(
                application=application,
                decided_by=request.user,
                is_approved="approve" in request.POST,
                reason=form.cleaned_data["reason"],
            )
        except ProblemError as error:
            self.message_user(request, error.detail, messages.ERROR)
            return HttpResponseRedirect(here)
        done = "approved; a mail tells them how to start" if "approve" in request.POST else "declined; a mail tells them why"
        self.message_user(request, f"{application.full_name} is {done}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:people_researcherapplication_changelist"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MemberInline(_MemberInline):
    """Who is in a team."""

    model = TeamMember
    extra = 0
    fields = ("user", "is_lead", "joined_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Team)
class TeamAdmin(_TeamAdmin):
    """Teams: a name that offends can be changed, a team removed."""

    list_display = ("name", "created_at")
    search_fields = ("name",)
    fields = ("name", "created_at")
    readonly_fields = ("created_at",)
    inlines = (MemberInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
