"""Writes of notifications: what people are told, by which ways, and where their webhook is."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from people.models import User
from people.notifications.delivery import webhook_secret, webhook_url_check
from people.notifications.models import Notification, NotificationKind, NotificationSetting, Webhook, WebhookDelivery

SUBJECT_MAX: Final = 200
WAYS: Final = ("portal", "mail", "webhook")


@dataclass(frozen=True)
class Draft:
    """A notification that is to be. `key`: what it is about; the same for the same owner is written once."""

    owner_id: int
    kind: NotificationKind
    key: str
    subject: str
    path: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def notifications_write(drafts: Sequence[Draft]) -> list[Notification]:
    """Writes those that their owners want in the portal or by webhook and that are new. A handful of statements, however many."""
    if not drafts:
        return []
    owners = {draft.owner_id for draft in drafts}
    settings = {(one.owner_id, one.kind): one for one in NotificationSetting.objects.filter(owner__in=owners)}
    hooks = {hook.owner_id: hook for hook in Webhook.objects.filter(owner__in=owners)}
    known = set(Notification.objects.filter(owner__in=owners, key__in=[draft.key for draft in drafts]).values_list("owner", "key"))
    rows, posted = [], []
    for draft in drafts:
        wanted = settings.get((draft.owner_id, draft.kind)) or NotificationSetting()
        hook = hooks.get(draft.owner_id) if wanted.webhook else None
        if (draft.owner_id, draft.key) in known or not (wanted.portal or hook):
            continue
        known.add((draft.owner_id, draft.key))
        rows.append(_row(draft, in_portal=wanted.portal))
        posted.append(hook)
    now = timezone.now()
    with transaction.atomic():
        Notification.objects.bulk_create(rows)
        WebhookDelivery.objects.bulk_create(
            WebhookDelivery(webhook=hook, notification=row, next_at=now) for row, hook in zip(rows, posted, strict=True) if hook
        )
    return rows


def _row(draft: Draft, *, in_portal: bool) -> Notification:
    return Notification(
        owner_id=draft.owner_id,
        kind=draft.kind,
        key=draft.key,
        subject=draft.subject[:SUBJECT_MAX],
        text=draft.text,
        path=draft.path,
        data=dict(draft.data),
        in_portal=in_portal,
    )


def notifications_read(*, owner: User, ids: Iterable[int] | None = None) -> int:
    """Marks these, or all (None), of `owner` as read, and returns how many were not. Idempotent; another's are passed over."""
    unread = Notification.objects.filter(owner=owner, read_at=None)
    return (unread if ids is None else unread.filter(pk__in=list(ids))).update(read_at=timezone.now())


@transaction.atomic
def settings_set(*, owner: User, wanted: Mapping[str, Iterable[str]]) -> None:
    """`wanted`: the ways (WAYS) by which `owner` is told, by kind; a kind that isn't named is told by none."""
    for kind in NotificationKind.values:
        ways = set(wanted.get(kind, ()))
        NotificationSetting.objects.update_or_create(owner=owner, kind=kind, defaults={way: way in ways for way in WAYS})


@transaction.atomic
def webhook_set(*, owner: User, url: str) -> tuple[Webhook, str]:
    """The webhook of `owner`, switched on, and its new secret, which is told here and never again. Raises WebhookUrlInvalidError."""
    fresh = {"url": webhook_url_check(url), "salt": secrets.token_bytes(32), "failures": 0, "disabled_at": None}
    webhook, _ = Webhook.objects.update_or_create(owner=owner, defaults=fresh)
    return webhook, webhook_secret(webhook)


def webhook_remove(*, owner: User) -> None:
    """Ends it, with what waits to be delivered. Idempotent."""
    Webhook.objects.filter(owner=owner).delete()
