"""Posts notifications to webhooks.

1. `https://` only, to public addresses, each checked before it is connected to (people/outward.py). No redirects, no proxies; time and
   what is read of an answer are bounded. The answer's body is neither kept nor shown: it could be that of an inner service.
2. The body is signed: `Nexa-Signature: sha256=` and the hexadecimal HMAC-SHA256 of `Nexa-Timestamp`, a full stop and the body.
3. What fails is tried again, later each time, ATTEMPTS_MAX times in all. A webhook whose attempts keep failing is switched off, and its
   owner is told.
4. A run is in a thread of its own (beside.py) and goes round: no webhook has a second attempt while others wait for their first.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_match_hostname import CertificateError

from people.notifications.models import Notification, NotificationKind, Webhook, WebhookDelivery
from people.notifications.services import Draft, notifications_write
from people.notifications.webhooks import webhook_secret, webhook_url_check
from people.outward import address_is_public, addresses_of

log = logging.getLogger(__name__)

ATTEMPTS_MAX: Final = 7
FAILURES_MAX: Final = 20
"""Attempts in a row after which a webhook is switched off."""
FIRST_RETRY: Final = timedelta(seconds=30)
"""Four times as long after each further failure: the last attempt comes some eleven hours after the first."""
CLAIMED_FOR: Final = timedelta(minutes=2)
BATCH: Final = 20
RUN_SECONDS: Final = 8.0
"""After so long a run begins no further post."""
TIMEOUT_SECONDS: Final = 4.0


class DeliveryError(Exception):
    """An attempt failed. `code` is kept and shown to the owner."""

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class DeliveryPolicy:
    """Where to, and how its certificate is checked. Parameters, so that tests can have a server of their own."""

    ca_certificates: str | None = None
    """A PEM file; None: the system's."""
    address_allowed: Callable[[str], bool] = field(default=address_is_public)
    resolve: Callable[[str, int], list[str]] = field(default=addresses_of)
    timeout_seconds: float = TIMEOUT_SECONDS


def signature_of(*, secret: str, timestamp: int, body: bytes) -> str:
    """Rule 2."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def deliveries_run(*, policy: DeliveryPolicy | None = None, now: datetime | None = None) -> int:
    """Makes the attempts that are due, and returns how many. Each is claimed first: another process makes none of them twice."""
    give_up_at = time.monotonic() + RUN_SECONDS
    made = 0
    seen: set[int] = set()
    while made < BATCH and time.monotonic() < give_up_at:
        delivery = _claim(now or timezone.now(), but=seen) or (_claim(now or timezone.now(), but=set()) if seen else None)
        if delivery is None:
            break
        seen = {delivery.webhook_id} if delivery.webhook_id in seen else seen | {delivery.webhook_id}
        _attempt(delivery, policy or DeliveryPolicy())
        made += 1
    return made


@transaction.atomic
def _claim(now: datetime, *, but: set[int]) -> WebhookDelivery | None:
    """The delivery that is due the longest, of a webhook that is none of `but`."""
    due = WebhookDelivery.objects.filter(next_at__lte=now, webhook__disabled_at=None).exclude(webhook__in=but)
    found = due.select_related("webhook", "notification").select_for_update(skip_locked=True, of=("self",)).order_by("next_at").first()
    if found is not None:
        found.attempts += 1
        found.next_at = now + CLAIMED_FOR
        found.save(update_fields=["attempts", "next_at"])
    return found


def _attempt(delivery: WebhookDelivery, policy: DeliveryPolicy) -> None:
    webhook = delivery.webhook
    try:
        delivery.status = post(url=webhook.url, secret=webhook_secret(webhook), body=body_of(delivery.notification), policy=policy)
    except DeliveryError as error:
        delivery.status, delivery.error = error.status, error.code
        left = delivery.attempts < ATTEMPTS_MAX
        delivery.next_at = timezone.now() + FIRST_RETRY * 4 ** (delivery.attempts - 1) if left else None
        Webhook.objects.filter(pk=webhook.pk).update(failures=F("failures") + 1)
        log.info("webhook delivery %s, attempt %d: %s", delivery.pk, delivery.attempts, error.code)
    else:
        delivery.delivered_at, delivery.next_at, delivery.error = timezone.now(), None, ""
        Webhook.objects.filter(pk=webhook.pk).update(failures=0)
    delivery.save(update_fields=["status", "error", "next_at", "delivered_at"])
    _switch_off_if_hopeless(webhook)


def _switch_off_if_hopeless(webhook: Webhook) -> None:
    now = timezone.now()
    if Webhook.objects.filter(pk=webhook.pk, disabled_at=None, failures__gte=FAILURES_MAX).update(disabled_at=now):
        subject = f"Your webhook was switched off: {FAILURES_MAX} attempts in a row failed"
        text = "See on its page what came back, set the address again, and what waits is delivered."
        key, path = f"webhook:{webhook.pk}:{now.timestamp():.0f}", "/notifications/settings/"
        notifications_write([Draft(webhook.owner_id, NotificationKind.WEBHOOK, key, subject, path, text)])


def body_of(notification: Notification) -> bytes:
    """What is posted, as JSON."""
    document: dict[str, Any] = {
        "id": notification.pk,
        "kind": notification.kind,
        "subject": notification.subject,
        "text": notification.text,
        "url": f"{settings.NEXA_ORIGIN}{notification.path}",
        "at": notification.created_at.isoformat(),
        "data": notification.data,
    }
    return json.dumps(document, sort_keys=True).encode()


def post(*, url: str, secret: str, body: bytes, policy: DeliveryPolicy) -> int:
    """Posts `body`, signed, and returns the status, 200 to 299. Raises DeliveryError."""
    parts = urlsplit(webhook_url_check(url))
    host, port = str(parts.hostname), parts.port or 443
    try:
        addresses = policy.resolve(host, port)
    except OSError as error:
        raise DeliveryError("host_unknown") from error
    if not addresses or not all(policy.address_allowed(address) for address in addresses):
        raise DeliveryError("address_not_public")
    timestamp = int(time.time())
    headers = {
        "Host": host if port == 443 else f"{host}:{port}",
        "Content-Type": "application/json",
        "User-Agent": "nexapod-webhook",
        "Nexa-Timestamp": str(timestamp),
        "Nexa-Signature": signature_of(secret=secret, timestamp=timestamp, body=body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPSConnection(
        addresses[0],
        port,
        server_hostname=host,
        assert_hostname=host,
        cert_reqs="CERT_REQUIRED",
        ca_certs=policy.ca_certificates,
        timeout=policy.timeout_seconds,
    )
    status = _status_of(connection, target, body, headers, policy.timeout_seconds)
    if not 200 <= status < 300:
        raise DeliveryError("redirect_refused" if 300 <= status < 400 else "status_not_ok", status)
    return status


def _status_of(connection: HTTPSConnection, target: str, body: bytes, headers: dict[str, str], seconds: float) -> int:
    """The status that the server answers; the rest stays unread, whatever its size. Time-outs are for each read, and a status line can
    drip: so a timer cuts the connection."""
    try:
        connection.connect()
        cut = threading.Timer(seconds, _cut, [connection])
        cut.start()
        try:
            connection.request("POST", target, body=body, headers=headers, preload_content=False)
            return connection.getresponse().status
        finally:
            cut.cancel()
    except (HTTPError, HTTPException, CertificateError, OSError) as error:
        raise DeliveryError("unreachable") from error
    finally:
        connection.close()


def _cut(connection: HTTPSConnection) -> None:
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
