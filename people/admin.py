"""Moderators' pages of people. Secrets are not among the fields: only their hashes exist, and these stay hidden."""

from __future__ import annotations

from django import forms
from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest

from ledger.selectors import balance_micro_of
from people.erasure.services import account_erase_for
from people.invitations.admin import InvitationAdmin  # noqa: F401  Django looks for pages in this module
from people.models import TEAM_NAME_MAX, ApiToken, ApplicationState, ResearcherApplication, Team, TeamMember, User
from people.moderation import services
from people.moderation.admin import PublicReasonForm, credits_of
from people.moderation.finding import people_beginning, people_called
from people.moderation.pages import ActPage, LookAdmin, LookInline, ReasonForm, filter_named
from people.services import application_decide, researcher_approve


class ApprovalForm(forms.Form):
    """What the moderator tells the applicant."""

    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}),
        max_length=2000,
        required=False,
        label="To the applicant",
        help_text="It is in the mail that tells them, on their page, and in the trail for good: name nobody.",
    )


class RefusalForm(ReasonForm):
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}),
        max_length=2000,
        label="Why, to the applicant",
        help_text="They read this, and may apply again with what was missing. It stays in the trail: name nobody.",
    )


class GrantForm(PublicReasonForm):
    """How much, and why. `act_id` makes a form that is sent twice one grant."""

    act_id = forms.UUIDField(widget=forms.HiddenInput)
    credits = forms.DecimalField(max_digits=12, decimal_places=6, min_value=0, label="Credits")
    field_order = ("act_id", "credits", "reason")


class TeamNameForm(ReasonForm):
    name = forms.CharField(max_length=TEAM_NAME_MAX, label="Its new name", help_text="Shown on the wall. The lead can choose another.")
    field_order = ("name", "reason")


@admin.register(User)
class UserAdmin(LookAdmin):
    says = "Everybody with an account. What they sign in with is theirs: nothing of it is shown or set here."
    list_display = ("username", "email", "shown_as", "researcher_approved_at", "is_staff", "is_active", "date_joined")
    list_filter = (
        ("researcher_approved_at", filter_named(admin.EmptyFieldListFilter, "submitting", "all", "not approved", "researchers")),
        ("is_staff", filter_named(admin.BooleanFieldListFilter, "moderating", "all", "moderators", "others")),
        ("is_active", filter_named(admin.BooleanFieldListFilter, "account", "all", "open", "closed")),
    )
    finders = (people_called, people_beginning)
    search_help_text = "how the username begins, whole e-mail or display name"
    ordering = ("-date_joined",)
    fields = (
        "username", "email", "display_name", "about", "is_public", "date_joined", "last_login",
        "researcher_approved_at", "balance", "is_staff", "is_superuser", "is_active",
        "erased_at",
    )  # fmt: skip
    acts = (
        ActPage(
            name="grant",
            label="Grant credits",
            says=(
                "Moves credits from the treasury to this person's account, by a public entry.",
                "What one moderator grants in 24 hours is bounded. A grant that isn't spent can be reversed.",
            ),
            form=GrantForm,
            run=lambda by, row, data: services.credits_grant(
                to=row, by=by, amount_micro=int(data["credits"] * 1_000_000), reason=data["reason"], act_id=data["act_id"]
            ),
            applies=lambda row: row.erased_at is None,
            done="the credits are on the account.",
        ),
        ActPage(
            name="approve",
            label="Approve as researcher",
            says=(
                "Lets this person submit jobs, and posts their start grant. Meant for people whom you know: others apply.",
                "It can't be undone here; an account that is closed submits nothing.",
            ),
            run=lambda by, row, data: researcher_approve(user=row, approved_by=by, reason=data["reason"]),
            applies=lambda row: not row.is_researcher and row.erased_at is None,
            done="may submit jobs now.",
        ),
        ActPage(
            name="close",
            label="Close the account",
            says=(
                "Nobody signs in to it, its API tokens and its nodes' keys open nothing.",
                "What was earned stays, and so does all that was signed. It can be reopened.",
            ),
            run=lambda by, row, data: services.account_close(user=row, by=by, reason=data["reason"]),
            applies=lambda row: row.is_active and not row.is_staff,
            done="the account is closed.",
            is_grave=True,
        ),
        ActPage(
            name="reopen",
            label="Reopen the account",
            says=("Lets the person in again, with all that was theirs.",),
            run=lambda by, row, data: services.account_reopen(user=row, by=by, reason=data["reason"]),
            applies=lambda row: not row.is_active and row.erased_at is None,
            done="the account is open again.",
        ),
        ActPage(
            name="erase",
            label="Erase the person",
            says=(
                "For who asks for it and can't sign in: others do it themselves, on the page of their account.",
                "Names, addresses, applications, tokens, sign-in and team go; nodes are revoked; results and inputs are removed.",
                "The public log, signed orders and receipts, credits and the trail stay, under a number. It can't be undone.",
                "Be sure that it is the person who asks. It is refused while jobs of theirs are open.",
            ),
            run=lambda by, row, data: account_erase_for(user=row, by=by, reason=data["reason"]),
            applies=lambda row: row.erased_at is None and not row.is_staff,
            done="erased.",
            is_grave=True,
            returns_to_list=True,
        ),
        ActPage(
            name="appoint",
            label="Appoint as moderator",
            says=("Lets this person do all that moderators do, from their next page on. Ask them to add a second factor first.",),
            run=lambda by, row, data: services.moderator_appoint(user=row, by=by, reason=data["reason"]),
            applies=lambda row: row.is_active and not row.is_staff,
            done="is a moderator.",
            operator_only=True,
        ),
        ActPage(
            name="dismiss",
            label="Dismiss as moderator",
            says=("Ends what this person may do here, from their next page on. Their acts stay in the trail.",),
            run=lambda by, row, data: services.moderator_dismiss(user=row, by=by, reason=data["reason"]),
            applies=lambda row: row.is_staff,
            done="is no moderator any more.",
            operator_only=True,
            is_grave=True,
        ),
    )

    @admin.display(description="shown as", empty_value="not public")
    def shown_as(self, user: User) -> str | None:
        return user.public_name if user.is_public else None

    @admin.display(description="balance in credits")
    def balance(self, user: User) -> str:
        return credits_of(balance_micro_of(user_id=user.pk))


@admin.register(ApiToken)
class ApiTokenAdmin(LookAdmin):
    says = "Tokens are minted by their owners only. One that leaked can be revoked here."
    list_display = ("name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)
    list_filter = (("revoked_at", filter_named(admin.EmptyFieldListFilter, "state", "all", "not revoked", "revoked")),)
    ordering = ("-created_at",)
    fields = ("name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    acts = (
        ActPage(
            name="revoke",
            label="Revoke",
            says=("The token opens nothing from now on, for good. Its owner mints another.",),
            run=lambda by, row, data: services.token_end(token=row, by=by, reason=data["reason"]),
            applies=lambda row: row.revoked_at is None,
            done="revoked.",
            is_grave=True,
        ),
    )


@admin.register(ResearcherApplication)
class ResearcherApplicationAdmin(LookAdmin):
    says = "Who asks to submit jobs, open ones first. What was written and decided is never edited."
    list_display = ("full_name", "affiliation", "applicant", "state", "created_at", "decided_by")
    list_filter = ("state",)
    search_fields = ("full_name", "affiliation", "applicant__username", "applicant__email")
    list_select_related = ("applicant", "decided_by")
    fields = (
        "full_name", "affiliation", "applicant", "link", "created_at", "state", "purpose", "decided_at", "decided_by", "reason",
    )  # fmt: skip
    acts = (
        ActPage(
            name="approve",
            label="Approve",
            says=(
                "Lets the applicant submit jobs, and posts their start grant. A mail tells them how to start.",
                "Their jobs run on strangers' machines: look at who they are, and what they want to run.",
            ),
            form=ApprovalForm,
            run=lambda by, row, data: application_decide(application=row, decided_by=by, is_approved=True, reason=data["reason"]),
            applies=lambda row: row.state == ApplicationState.OPEN,
            done="approved; a mail tells them how to start.",
            returns_to_list=True,
        ),
        ActPage(
            name="decline",
            label="Decline",
            says=("Tells the applicant why not. They may apply again.",),
            form=RefusalForm,
            run=lambda by, row, data: application_decide(application=row, decided_by=by, is_approved=False, reason=data["reason"]),
            applies=lambda row: row.state == ApplicationState.OPEN,
            done="declined; a mail tells them why.",
            is_grave=True,
            returns_to_list=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ResearcherApplication]:
        return super().get_queryset(request).order_by(F("decided_at").desc(nulls_first=True), "created_at")


class MemberInline(LookInline):
    """Who is in a team."""

    model = TeamMember
    fields = ("user", "is_lead", "joined_at")
    readonly_fields = fields
    show_change_link = False


@admin.register(Team)
class TeamAdmin(LookAdmin):
    says = "Teams of the wall. A name that offends can be replaced, a team removed."
    list_display = ("name", "created_at")
    search_fields = ("name",)
    fields = ("name", "created_at")
    inlines = (MemberInline,)
    acts = (
        ActPage(
            name="rename",
            label="Replace the name",
            says=("The team has another name on the wall from now on. Its members see it there.",),
            form=TeamNameForm,
            run=lambda by, row, data: services.team_name_replace(team=row, by=by, name=data["name"], reason=data["reason"]),
            done="has its new name.",
        ),
        ActPage(
            name="remove",
            label="Remove the team",
            says=("Ends the team for good. What its members did stays theirs, on the wall and in the ledger.",),
            run=lambda by, row, data: services.team_remove(team=row, by=by, reason=data["reason"]),
            done="removed.",
            is_grave=True,
            returns_to_list=True,
        ),
    )
