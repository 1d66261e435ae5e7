"""Celery tasks of people: thin, idempotent."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from people.notifications.beside import DeliveryThread
from people.notifications.delivery import deliveries_run
from people.notifications.mailing import mails_send as mails_run

_WEBHOOKS: Final = DeliveryThread("webhooks", deliveries_run)
_MAILS: Final = DeliveryThread("mails", mails_run)


@shared_task(name="control.webhooks_deliver")
def webhooks_deliver() -> None:
    """Has the attempts made that are due, and doesn't wait for those who receive them."""
    _WEBHOOKS.start()


@shared_task(name="control.mails_send")
def mails_send() -> None:
    """Has the mails sent that are due, and doesn't wait for the mail server."""
    _MAILS.start()
