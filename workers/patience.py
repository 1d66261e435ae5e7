"""How long those wait who have something for a portal that is away: until their next try is due, it is back, or they have to give up."""

from __future__ import annotations

import threading


class Patience(threading.Event):
    """Set when everybody must give up. `portal_back` ends the present waits only: whoever waits now looks again.

    Without it finished work would keep its slot for up to a minute after the portal has answered somebody else of this host.
    """

    def __init__(self) -> None:
        super().__init__()
        self._woken = threading.Condition()

    def set(self) -> None:
        super().set()
        self.portal_back()

    def portal_back(self) -> None:
        """The portal has answered after an outage."""
        with self._woken:
            self._woken.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Up to `timeout` seconds, None: without end; whether it is set."""
        with self._woken:
            if not self.is_set():
                self._woken.wait(timeout)
        return self.is_set()
