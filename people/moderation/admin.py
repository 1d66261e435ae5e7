"""The trail in the admin, and the ledger, whose only act is a reversal: an entry of its own."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from ledger.models import Account, Checkpoint, CoordinatorSuccession, Entry, EntryKind, Posting
from people.moderation.finding import people_called, uuid_of
from people.moderation.models import Act
from people.moderation.pages import ActPage, LookAdmin, LookInline, ReasonForm, link_to
from people.moderation.selectors import acts_named
from people.moderation.services import PUBLIC_REASON_CHARACTERS_MAX, entry_reverse


class PublicReasonForm(ReasonForm):
    """Why, for all to read."""

    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=PUBLIC_REASON_CHARACTERS_MAX,
        label="Why",
        help_text="Public: it stands in the ledger for good. Name nobody, and nothing that somebody may want forgotten.",
    )


def credits_of(micro: int) -> str:
    """Millionths as credits, thousands apart."""
    return f"{micro / 1_000_000:,.6f}".rstrip("0").rstrip(".")


@admin.register(Act)
class ActAdmin(LookAdmin):
    says = "Who did what, when, on what and why. Lines are added by acts, and by nothing else changed or removed: the database refuses it."
    list_display = ("at", "kind", "about", "who", "reason")
    list_display_links = ("at",)
    list_filter = ("kind", ("by", admin.RelatedOnlyFieldListFilter), "at")
    search_fields = ("about_name", "about_key", "reason", "by__username")
    ordering = ("-at", "-id")
    fields = ("at", "kind", "about", "who", "reason", "detail", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Act]:
        return acts_named()

    @admin.display(description="on what")
    def about(self, act: Act) -> str:
        return link_to(act)

    @admin.display(description="who", ordering="by__username", empty_value="the operator")
    def who(self, act: Act) -> str | None:
        return None if act.by is None else act.by.username


class PostingInline(LookInline):
    """Both sides of an entry."""

    model = Posting
    fields = ("account", "credits")
    readonly_fields = fields
    show_change_link = False

    @admin.display(description="credits")
    def credits(self, posting: Posting) -> str:
        return credits_of(posting.amount_micro)


def entries_named(text: str) -> list[int]:
    """With this number or idempotency key."""
    number = [int(text)] if text.isdecimal() and len(text) < 19 else []
    return [*number, *Entry.objects.filter(idempotency_key=text).values_list("pk", flat=True)]


def accounts_found(text: str) -> list[UUID]:
    """With this id, or of people of this name or address."""
    theirs = list(Account.objects.filter(owner__in=people_called(text)).values_list("pk", flat=True))
    return [*theirs, found] if (found := uuid_of(text)) else theirs


@admin.register(Entry)
class EntryAdmin(LookAdmin):
    says = "Every movement of credits. Nothing here is edited: a reversal is an entry of its own, and both stay."
    list_display = ("item_id", "kind", "credits", "idempotency_key", "created_at")
    list_display_links = ("item_id",)
    list_filter = ("kind",)
    finders = (entries_named,)
    search_help_text = "number, or whole key"
    ordering = ("-item_id",)
    fields = ("item_id", "kind", "idempotency_key", "evidence", "created_at", "public_page")
    inlines = (PostingInline,)
    acts = (
        ActPage(
            name="reverse",
            label="Reverse",
            says=(
                "Posts an entry that undoes this one, whole: the treasury has a grant back, who reserved has a payment back.",
                "Both entries stay in the public log. Nothing is taken that is spent already, and a reversal is never undone.",
            ),
            form=PublicReasonForm,
            run=lambda by, row, data: entry_reverse(entry=row, by=by, reason=data["reason"]),
            applies=lambda row: row.kind in {EntryKind.GRANT, EntryKind.PAYMENT},
            done="reversed, by an entry of its own.",
            is_grave=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        return super().get_queryset(request).prefetch_related("postings").select_related("item__leaf")

    @admin.display(description="credits")
    def credits(self, entry: Entry) -> str:
        return credits_of(sum(posting.amount_micro for posting in entry.postings.all() if posting.amount_micro > 0))

    @admin.display(description="public page", empty_value="in the log with the next checkpoint")
    def public_page(self, entry: Entry) -> str | None:
        leaf = getattr(entry.item, "leaf", None)
        return (
            None if leaf is None else format_html('<a href="{}">leaf {}</a>', reverse("ledger-entry-page", args=[leaf.index]), leaf.index)
        )


@admin.register(Account)
class AccountAdmin(LookAdmin):
    says = "Where credits are. A balance follows from postings and from nothing else."
    list_display = ("id", "kind", "owner", "credits")
    list_filter = ("kind",)
    list_select_related = ("owner",)
    finders = (accounts_found,)
    search_help_text = "id, owner's whole name or e-mail"
    fields = ("id", "kind", "owner", "credits", "created_at")

    @admin.display(description="credits", ordering="balance_micro")
    def credits(self, account: Account) -> str:
        return credits_of(account.balance_micro)


@admin.register(Checkpoint)
class CheckpointAdmin(LookAdmin):
    says = "Signed notes over the log, as they were published."
    list_display = ("size", "epoch", "created_at")
    fields = ("size", "epoch", "note", "created_at")


@admin.register(CoordinatorSuccession)
class CoordinatorSuccessionAdmin(LookAdmin):
    says = "The coordinator's keys, each with the one that follows."
    list_display = ("key_id", "successor_key_id", "created_at")
    fields = ("key_id", "successor_key_id", "created_at")
