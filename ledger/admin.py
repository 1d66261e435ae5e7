"""The ledger in the admin: to look at. Nothing here can change it; credits move through services only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from ledger.models import Account, Checkpoint, CoordinatorSuccession, Entry, Posting


class _ReadOnly:
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PostingInline(_ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """Both sides of an entry."""

    model = Posting
    fields = ["account", "amount_micro"]
    extra = 0


@admin.register(Entry)
class EntryAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Entries, newest first."""

    list_display = ["item_id", "kind", "idempotency_key", "created_at"]
    list_filter = ["kind"]
    search_fields = ["idempotency_key"]
    ordering = ["-item_id"]
    inlines = [PostingInline]
    show_full_result_count = False


@admin.register(Account)
class AccountAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Accounts with their balances."""

    list_display = ["id", "kind", "owner", "balance_micro"]
    list_filter = ["kind"]
    list_select_related = ["owner"]


@admin.register(Checkpoint)
class CheckpointAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Published checkpoints."""

    list_display = ["size", "created_at"]


@admin.register(CoordinatorSuccession)
class CoordinatorSuccessionAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The coordinator's keys, each with the one that follows."""

    list_display = ["key_id", "successor_key_id", "created_at"]
    exclude = ["public_key", "envelope"]
