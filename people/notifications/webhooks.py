"""The webhook of a person: its address, and the secret that is derived for it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from people.errors import WebhookUrlInvalidError
from people.models import User
from people.notifications.models import Webhook


@transaction.atomic
def webhook_set(*, owner: User, url: str) -> tuple[Webhook, str]:
    """The webhook of `owner`, switched on, and its new secret, which is told here and never again. Raises WebhookUrlInvalidError."""
    fresh = {"url": webhook_url_check(url), "salt": secrets.token_bytes(32), "failures": 0, "disabled_at": None}
    webhook, _ = Webhook.objects.update_or_create(owner=owner, defaults=fresh)
    return webhook, webhook_secret(webhook)


def webhook_remove(*, owner: User) -> None:
    """Ends it, with what waits to be delivered. Idempotent."""
    Webhook.objects.filter(owner=owner).delete()


def webhook_url_check(url: str) -> str:
    """`url` if notifications can be posted to it. Where it leads is checked at each delivery. Raises WebhookUrlInvalidError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookUrlInvalidError("Expected https://host/path; this is no address.") from error
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment or port == 0:
        raise WebhookUrlInvalidError("Expected https://host/path without user, password and fragment.")
    if not url.isascii() or len(url) > 500 or any(mark.isspace() or not mark.isprintable() for mark in url):
        raise WebhookUrlInvalidError("Expected at most 500 printable ASCII characters without spaces.")
    return url


def webhook_secret(webhook: Webhook) -> str:
    """`nexa_whs_` and 64 hexadecimal digits. Derived from this portal's key: who has the database alone has no secret."""
    return "nexa_whs_" + hmac.new(settings.SECRET_KEY.encode(), b"webhook\0" + bytes(webhook.salt), hashlib.sha256).hexdigest()
