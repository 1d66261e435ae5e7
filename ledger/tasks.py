"""Tasks of the ledger."""

from __future__ import annotations

from celery import shared_task

from ledger.checkpoints import checkpoint_publish


@shared_task(name="conclude.checkpoint_publish")
def checkpoint_publish_task() -> None:
    """Brings the log up to date; runs each second, and a lost run is made up for by the next."""
    checkpoint_publish()
