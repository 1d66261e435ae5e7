"""Celery tasks of people: thin, idempotent."""

from __future__ import annotations

from celery import shared_task

from people.notifications.delivery import deliveries_run


@shared_task(name="control.webhooks_deliver")
def webhooks_deliver() -> None:
    """Makes the attempts that are due."""
    deliveries_run()
