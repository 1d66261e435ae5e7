"""Reads of notifications, each for their owner."""

from __future__ import annotations

from collections.abc import Iterable

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
    """One a kind, in the order of the kinds; what isn't set is by all ways."""
    found = {one.kind: one for one in NotificationSetting.objects.filter(owner=owner)}
    return [found.get(kind, NotificationSetting(owner=owner, kind=kind)) for kind in NotificationKind.values]


def owners_without_mail(*, kinds: Iterable[str], owners: Iterable[int]) -> set[tuple[int, str]]:
    """(owner, kind) of these who do not want to be mailed about it."""
    found = NotificationSetting.objects.filter(owner__in=list(owners), kind__in=list(kinds), mail=False)
    return set(found.values_list("owner", "kind"))


def webhook_of(*, owner: User) -> Webhook | None:
    """The webhook of `owner`; None: there is none."""
    return Webhook.objects.filter(owner=owner).first()


def deliveries_of(*, webhook: Webhook, limit: int) -> list[WebhookDelivery]:
    """The newest, notifications fetched along."""
    return list(WebhookDelivery.objects.filter(webhook=webhook).select_related("notification").order_by("-pk")[:limit])
