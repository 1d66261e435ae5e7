"""Rows that have had their time, deleted a batch at a time. What goes when stands in nexaportal/housekeeping.py."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from people.models import ApiToken
from people.notifications.models import Notification

BATCH_ROWS: Final = 500
BATCHES_MAX: Final = 20


def rows_forget(rows: QuerySet[Any], *, order: str) -> int:
    """Deletes rows with what hangs on them, and returns how many: BATCH_ROWS in a transaction, at most BATCHES_MAX of those in a call.

    Rows that somebody has locked are passed over. What is left, the next call finds.
    """
    forgotten = 0
    for _ in range(BATCHES_MAX):
        with transaction.atomic():
            batch = rows.select_for_update(of=("self",), skip_locked=True).order_by(order)
            keys = list(batch.values_list("pk", flat=True)[:BATCH_ROWS])
            rows.model._default_manager.filter(pk__in=keys).delete()
        forgotten += len(keys)
        if len(keys) < BATCH_ROWS:
            break
    return forgotten


def sessions_forget(*, now: datetime) -> int:
    """Browser sessions that have expired, and what the account page knew of them."""
    expired = rows_forget(Session.objects.filter(expire_date__lt=now), order="expire_date")
    gone = UserSession.objects.filter(~Exists(Session.objects.filter(session_key=OuterRef("session_key"))))
    rows_forget(gone, order="pk")
    return expired


def api_tokens_forget(*, now: datetime) -> int:
    """API tokens that expired or were revoked NEXA_ENDED_DAYS ago."""
    before = now - timedelta(days=settings.NEXA_ENDED_DAYS)
    return rows_forget(ApiToken.objects.filter(Q(expires_at__lt=before) | Q(revoked_at__lt=before)), order="pk")


def notifications_forget(*, now: datetime) -> int:
    """Notifications of NEXA_NOTIFICATION_DAYS ago, read or not, with their deliveries; 0 days: none."""
    if not settings.NEXA_NOTIFICATION_DAYS:
        return 0
    before = now - timedelta(days=settings.NEXA_NOTIFICATION_DAYS)
    return rows_forget(Notification.objects.filter(created_at__lt=before), order="pk")
