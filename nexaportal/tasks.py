"""Tasks of the portal as a whole: thin, idempotent."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from nexaportal import housekeeping


@shared_task(name="control.house_keep")
def house_keep() -> None:
    """Forgets what has had its time."""
    housekeeping.house_keep(now=timezone.now())
