"""Tasks of nodes."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from nodes.wall.summing import standings_sum


@shared_task(name="control.standings_sum")
def standings_sum_task() -> None:
    """Brings the wall up to date."""
    standings_sum(today=timezone.now().date())
