"""Celery tasks of people: thin, idempotent."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from people.notifications.beside import DeliveryThread
from people.notifications.delivery import deliveries_run

_DELIVERIES: Final = DeliveryThread(deliveries_run)


@shared_task(name="control.webhooks_deliver")
def webhooks_deliver() -> None:
    """Has the attempts made that are due, and doesn't wait for those who receive them."""
    _DELIVERIES.start()
