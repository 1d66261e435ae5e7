"""Writes of notifications: what people are told, and by which ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from people.mail import mail_server_is_missing
from people.models import User
from people.notifications.models import MailDelivery, Notification, NotificationKind, NotificationSetting, Webhook, WebhookDelivery
from people.notifications.selectors import kinds_for

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
    """Writes those that are new and that their owners want by any way, and has them delivered. A handful of statements, however many."""
    if not drafts:
        return []
    owners = {draft.owner_id for draft in drafts}
    settings = {(one.owner_id, one.kind): one for one in NotificationSetting.objects.filter(owner__in=owners)}
    hooks = {hook.owner_id: hook for hook in Webhook.objects.filter(owner__in=owners)}
    known = set(Notification.objects.filter(owner__in=owners, key__in=[draft.key for draft in drafts]).values_list("owner", "key"))
    reachable = _reachable_by_mail(owners)
    now = timezone.now()
    rows, posts, mails = [], [], []
    for draft in drafts:
        wanted = settings.get((draft.owner_id, draft.kind)) or NotificationSetting()
        is_posted = wanted.webhook and draft.owner_id in hooks and draft.kind != NotificationKind.WEBHOOK
        is_mailed = wanted.mail and draft.owner_id in reachable
        if (draft.owner_id, draft.key) in known or not (wanted.portal or is_posted or is_mailed):
            continue
        known.add((draft.owner_id, draft.key))
        row = _row(draft, in_portal=wanted.portal)
        rows.append(row)
        if is_posted:
            posts.append(WebhookDelivery(webhook=hooks[draft.owner_id], notification=row, next_at=now))
        if is_mailed:
            mails.append(MailDelivery(owner_id=draft.owner_id, kind=draft.kind, notification=row, next_at=now))
    with transaction.atomic():
        Notification.objects.bulk_create(rows)
        WebhookDelivery.objects.bulk_create(posts)
        MailDelivery.objects.bulk_create(mails)
    return rows


def _reachable_by_mail(owners: Iterable[int]) -> set[int]:
    """Those of `owners` who have an address, at a portal that can mail."""
    if mail_server_is_missing():
        return set()
    return set(User.objects.filter(pk__in=list(owners), is_active=True).exclude(email="").values_list("pk", flat=True))


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
    """`wanted`: the ways (WAYS) by which `owner` is told, by kind; one of theirs (kinds_for) that isn't named is told by none."""
    for kind in kinds_for(owner):
        ways = set(wanted.get(kind, ()))
        NotificationSetting.objects.update_or_create(owner=owner, kind=kind, defaults={way: way in ways for way in WAYS})
