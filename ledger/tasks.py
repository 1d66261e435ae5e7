"""Tasks of the ledger."""

from __future__ import annotations

import logging

from celery import shared_task

from ledger.checkpoints import CheckpointUnprovenError, checkpoint_publish
from ledger.publication import PublishedAheadError, PublishedUnreadableError

_log = logging.getLogger(__name__)


@shared_task(name="conclude.checkpoint_publish")
def checkpoint_publish_task() -> None:
    """Brings the log up to date; runs twice a second, and a lost run is made up for by the next.

    Where an operator has to act, says so in each run's log line.
    """
    try:
        checkpoint_publish()
    except (PublishedAheadError, PublishedUnreadableError, CheckpointUnprovenError) as error:
        _log.error("%s: %s", error.code, error)
