"""That other host software is wanted: told in the log once a day, and kept for `nexa status` as long as it is so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from workers.journal import Fact, Journal

log = logging.getLogger(__name__)

AGAIN: Final = timedelta(days=1)


class UpgradeNotice:
    """Hears after each exchange whether it is so. Restarts don't make it tell more often: when it told stands in the journal."""

    def __init__(self, journal: Journal, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._journal = journal
        self._now = now

    def hear(self, reason: str) -> None:
        """`reason`: what is wanted and why, for the contributor; empty while nothing is. Raises JournalError."""
        told = self._journal.fact(Fact.UPGRADE) or ""
        if reason == told and (not reason or self._is_recent()):
            return
        self._journal.fact_note(Fact.UPGRADE, reason)
        if reason:
            log.warning("other host software is wanted: %s", reason)

    def _is_recent(self) -> bool:
        told_at = self._journal.fact_noted_at(Fact.UPGRADE)
        return told_at is not None and self._now() - told_at < AGAIN
