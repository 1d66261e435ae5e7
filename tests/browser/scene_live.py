"""What the pages of notifications need: some that were read, some that weren't, a webhook with a history."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from jobs.services.outbox import outbox_push
from people.models import User
from people.notifications.models import WebhookDelivery
from people.notifications.services import notifications_read
from people.notifications.webhooks import webhook_set


def live_make(researcher: User) -> None:
    """Pushes the outbox of the scene, and lets some deliveries have happened."""
    webhook_set(owner=researcher, url="https://hooks.example.org/nexapod")
    outbox_push()
    waiting = list(WebhookDelivery.objects.filter(webhook__owner=researcher).select_related("notification").order_by("pk"))
    notifications_read(owner=researcher, ids=[delivery.notification_id for delivery in waiting[:1]])
    if waiting:
        now = timezone.now()
        WebhookDelivery.objects.filter(pk=waiting[0].pk).update(attempts=1, status=204, delivered_at=now, next_at=None)
        WebhookDelivery.objects.filter(pk=waiting[-1].pk).update(
            attempts=2, status=503, error="status_not_ok", next_at=now + timedelta(days=1)
        )
