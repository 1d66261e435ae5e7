"""Waiting for a portal that is away: shortened when it is back, ended when there is no more time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workers.backoff import Backoff
from workers.patience import Patience
from workers.portal import PortalUnreachableError
from workers.retrying import portal_retry


class Tries:
    """A step that finds the portal away until `away` is cleared, in a thread that waits a minute between its tries."""

    def __init__(self, patience: Patience) -> None:
        self.away = True
        self.failed = threading.Event()
        self.done: list[bool] = []
        self._patience = patience
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.failed.wait(10)

    def _run(self) -> None:
        self.done.append(portal_retry(self._step, stop=self._patience, backoff=Backoff(uniform=lambda _lowest, _highest: 60.0)))

    def _step(self) -> None:
        if self.away:
            self.failed.set()
            raise PortalUnreachableError("nobody answers")

    def ended(self, nudge: Callable[[], None]) -> bool:
        """Whether it ends within ten seconds, `nudge` being called again and again: the thread may not wait yet."""
        for _ in range(200):
            nudge()
            self.thread.join(0.05)
            if not self.thread.is_alive():
                return True
        return False


def test_a_portal_that_is_back_is_tried_at_once() -> None:
    patience = Patience()
    tries = Tries(patience)
    tries.away = False
    assert tries.ended(patience.portal_back)
    assert tries.done == [True]


def test_giving_up_ends_the_wait_and_every_later_one() -> None:
    patience = Patience()
    tries = Tries(patience)
    assert tries.ended(patience.set)
    assert tries.done == [False]
    assert patience.is_set()
    assert patience.wait(600)


def test_a_portal_that_is_back_ends_nothing_but_waits() -> None:
    patience = Patience()
    patience.portal_back()
    assert not patience.is_set()
