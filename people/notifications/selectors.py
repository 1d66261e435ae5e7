"""Reads of notifications, each for their owner."""

from __future__ import annotations

from people.models import User
from people.notifications.models import Notification, NotificationKind, NotificationSetting, Webhook, WebhookDelivery

UNREAD_COUNTED = 99


def notifications_of(*, owner: User, before: int | None, limit: int) -> list[Notification]:
    """Those that `owner` wants in the portal, newest first, behind the id `before`."""
    found = Notification.objects.filter(owner=owner, in_portal=True).order_by("-pk")
    return list((found.filter(pk__lt=before) if before is not None else found)[:limit])


def unread_count(*, owner: User) -> int:
    """How many are not read, at most one more than UNREAD_COUNTED."""
    return Notification.objects.filter(owner=owner, in_portal=True, read_at=None)[: UNREAD_COUNTED + 1].count()


def settings_of(*, owner: User) -> list[NotificationSetting]:
    """One for each kind that may concern `owner`, in their order; what isn't set is by all ways."""
    found = {one.kind: one for one in NotificationSetting.objects.filter(owner=owner)}
    return [found.get(kind, NotificationSetting(owner=owner, kind=kind)) for kind in kinds_for(owner)]


def kinds_for(owner: User) -> list[str]:
    """The kinds that may concern `owner`: moderators' own are for moderators."""
    return [kind for kind in NotificationKind.values if kind != NotificationKind.MODERATION or owner.is_staff]


def webhook_of(*, owner: User) -> Webhook | None:
    """The webhook of `owner`; None: there is none."""
    return Webhook.objects.filter(owner=owner).first()


def deliveries_of(*, webhook: Webhook, limit: int) -> list[WebhookDelivery]:
    """The newest, notifications fetched along."""
    return list(WebhookDelivery.objects.filter(webhook=webhook).select_related("notification").order_by("-pk")[:limit])
