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


def _since_boot() -> float:
    """Seconds that no setting of the clock moves; a machine's sleep is among them where the system counts it."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class PortalClock:
    """The portal's time. One for all clients of a portal; threads may share it.

    Between two answers it goes by what has passed, not by this machine's clock: that may be set at any moment, and what runs is not to be
    given up for that.
    """

    def __init__(self, local: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        self._local = local
        self._steady = steady
        self._learnt: tuple[float, float] | None = None
        """The portal's time and the steady one of the same moment."""
        self._told_off_seconds = 0.0

    @property
    def is_confirmed(self) -> bool:
        """Whether the portal has said by now what time it is: nothing is given up for a time that nobody has confirmed."""
        return self._learnt is not None

    @property
    def offset_seconds(self) -> float:
        """What this machine's clock lacks; 0 where the two agree."""
        off_seconds = self.time() - self._local()
        return off_seconds if abs(off_seconds) > SMALL_SECONDS else 0.0

    def time(self) -> float:
        """Seconds since 1970."""
        if self._learnt is None:
            return self._local()
        portal, steady = self._learnt
        return portal + self._steady() - steady

    def now(self) -> datetime:
        """The same, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.time(), UTC)

    def shift(self, local: datetime) -> datetime:
        """A time that was read off this machine's clock, in the portal's time."""
        return local + timedelta(seconds=self.offset_seconds)

    def learn(self, portal_time: datetime) -> None:
        """Take over what the portal says the time is."""
        told, local = portal_time.timestamp(), self._local()
        if abs(told - local) <= SMALL_SECONDS:
            told = local  # finer than what an answer says
        elif self.is_confirmed and abs(told - self.time()) <= SMALL_SECONDS:
            return
        self._learnt = (told, self._steady())
        off_seconds = self.offset_seconds
        if off_seconds and abs(off_seconds - self._told_off_seconds) > SMALL_SECONDS:
            log.warning("this machine's clock differs from the portal's by %.0f s; the portal's counts. Set the clock.", off_seconds)
        self._told_off_seconds = off_seconds

    def learn_date(self, header: str | None) -> bool:
        """The same from a Date header (RFC 9110, section 6.6.1); whether that changed anything. One that can't be read does not."""
        before = self.time()
        try:
            self.learn(parsedate_to_datetime(header or ""))
        except (ValueError, TypeError, OverflowError):
            return False
        return abs(self.time() - before) > SMALL_SECONDS
