"""What time it is for the portal: this machine's clock, corrected where it is far off.

Signatures are fresh for a minute, and deadlines are the coordinator's. A host whose clock is an hour off shall work all the same; setting
it is for its owner (`nexa doctor` says so). What the portal says over TLS is believed: whoever could forge that could refuse us anyway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

log = logging.getLogger(__name__)

SMALL_SECONDS: Final = 5.0
"""A difference that changes nothing: the Date of an answer is exact to a second, and the answer takes its time."""


class PortalClock:
    """The portal's time. One for all clients of a portal; threads may share it."""

    def __init__(self, local: Callable[[], float] = time.time) -> None:
        self._local = local
        self.offset_seconds = 0.0
        """Added to this machine's time; 0 where the two agree."""
        self.is_confirmed = False
        """Whether the portal has said by now what time it is: nothing is given up for a time that nobody has confirmed."""

    def time(self) -> float:
        """Seconds since 1970."""
        return self._local() + self.offset_seconds

    def now(self) -> datetime:
        """The same, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.time(), UTC)

    def shift(self, local: datetime) -> datetime:
        """A time that was read off this machine's clock, in the portal's time."""
        return local + timedelta(seconds=self.offset_seconds)

    def learn(self, portal_time: datetime) -> None:
        """Take over what the portal says the time is."""
        self.is_confirmed = True
        offset_seconds = portal_time.timestamp() - self._local()
        if abs(offset_seconds) <= SMALL_SECONDS:
            offset_seconds = 0.0
        if abs(offset_seconds - self.offset_seconds) > SMALL_SECONDS:
            log.warning("this machine's clock differs from the portal's by %.0f s; the portal's counts. Set the clock.", offset_seconds)
            self.offset_seconds = offset_seconds

    def learn_date(self, header: str | None) -> bool:
        """The same from a Date header (RFC 9110, section 6.6.1); whether that changed anything. One that can't be read does not."""
        before = self.offset_seconds
        try:
            self.learn(parsedate_to_datetime(header or ""))
        except (ValueError, TypeError, OverflowError):
            return False
        return self.offset_seconds != before
