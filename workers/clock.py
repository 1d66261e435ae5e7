"""What time it is for the portal: this machine's clock, corrected where it is far off.

Signatures are fresh for a minute, and deadlines are the coordinator's. A host whose clock is an hour off shall work all the same; setting
it is for its owner (`nexa doctor` says so). What the portal says over TLS is believed: whoever could forge that could refuse us anyway.

Between two answers time goes on by a clock that nobody sets: setting this machine's clock, right or wrong, ends no run and no report.
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


def elapsed_seconds() -> float:
    """Since some moment, by a clock that nobody sets: one that counts while the machine sleeps, where the system has such a one."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class PortalClock:
    """The portal's time. One for all clients of a portal; threads may share it."""

    def __init__(self, local: Callable[[], float] = time.time, *, elapsed: Callable[[], float] = elapsed_seconds) -> None:
        self._local = local
        self._elapsed = elapsed
        self._begin: float | None = None
        """The portal's time when `elapsed` was 0, by an answer; None before the first."""
        self._told_offset_seconds = 0.0

    @property
    def is_confirmed(self) -> bool:
        """Whether the portal has said by now what time it is: nothing is given up for a time that nobody has confirmed."""
        return self._begin is not None

    @property
    def offset_seconds(self) -> float:
        """What is to be added to this machine's time now; 0 where the two agree."""
        offset_seconds = self.time() - self._local()
        return 0.0 if abs(offset_seconds) <= SMALL_SECONDS else offset_seconds

    def time(self) -> float:
        """Seconds since 1970. Before the portal's first answer, this machine's time."""
        begin = self._begin
        return self._local() if begin is None else begin + self._elapsed()

    def now(self) -> datetime:
        """The same, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.time(), UTC)

    def shift(self, local: datetime) -> datetime:
        """A time that was read off this machine's clock, in the portal's time."""
        return local + timedelta(seconds=self.offset_seconds)

    def learn(self, portal_time: datetime) -> bool:
        """Take over what the portal says the time is; whether `time` is noticeably another for that."""
        before, found, local = self.time(), portal_time.timestamp(), self._local()
        if abs(found - local) <= SMALL_SECONDS:
            self._begin = local - self._elapsed()  # finer than an answer
        elif self._begin is None or abs(found - before) > SMALL_SECONDS:
            self._begin = found - self._elapsed()
        self._tell()
        return abs(self.time() - before) > SMALL_SECONDS

    def _tell(self) -> None:
        offset_seconds = self.offset_seconds
        if abs(offset_seconds - self._told_offset_seconds) <= SMALL_SECONDS:
            return
        self._told_offset_seconds = offset_seconds
        if offset_seconds:
            log.warning("this machine's clock differs from the portal's by %.0f s; the portal's counts. Set the clock.", offset_seconds)
        else:
            log.info("this machine's clock agrees with the portal's again")

    def learn_date(self, header: str | None) -> bool:
        """The same from a Date header (RFC 9110, section 6.6.1); whether that changed anything. One that can't be read does not."""
        try:
            return self.learn(parsedate_to_datetime(header or ""))
        except (ValueError, TypeError, OverflowError):
            return False
