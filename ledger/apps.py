"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Accounts, entries, and the Merkle log over them."""

    name = "ledger"
    default_auto_field = "django.db.models.BigAutoField"
