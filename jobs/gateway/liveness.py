"""The web process says that it serves, whether or not a host calls.

Silence of hosts is theirs to answer for while this is said; when it stops (jobs/services/outages.py), the time is credited to their leases.
"""

from __future__ import annotations

import logging
import threading

from django.db import connections
from django.utils import timezone

from jobs.services.outages import portal_alive_record, silence_permitted

log = logging.getLogger(__name__)


class Liveness:
    """A daemon thread that records life each eighth of the silence that is permitted. Redis plays no part in it."""

    def __init__(self, *, period_seconds: float | None = None) -> None:
        self._period_seconds = period_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexa-liveness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends it and waits for its end."""
        self._stopping.set()
        self._thread.join()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                portal_alive_record(now=timezone.now())
            except Exception:  # PostgreSQL is away, or restarts: that is an outage, and it is credited at the next success
                log.exception("not recorded that the portal serves; tried again")
            finally:
                connections.close_all()  # a connection lost by a restart is not used again
            if self._stopping.wait(self._period_seconds or silence_permitted().total_seconds() / 8):
                return


def liveness_start() -> Liveness:
    """Starts saying so, until the process ends. Once for each web process; returns the thread's handle."""
    liveness = Liveness()
    liveness.start()
    return liveness
