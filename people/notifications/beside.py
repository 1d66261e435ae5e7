"""Runs deliveries beside what else a process does: a receiver or a mail server that is slow must not keep control from its other tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, Thread

from django.db import connections

log = logging.getLogger(__name__)


class DeliveryThread:
    """At most one run at a time in this process. One that is cut off with its process is made again when its claims expire."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        self._name = name
        self._run = run
        self._at_it = Lock()

    def start(self) -> bool:
        """Begins a run and doesn't wait for it. False: one is at it, nothing is begun."""
        if not self._at_it.acquire(blocking=False):
            return False
        Thread(target=self._work, name=self._name, daemon=True).start()
        return True

    def _work(self) -> None:
        try:
            self._run()
        except Exception:  # the next run is some seconds away
            log.exception("%s were not delivered", self._name)
        finally:
            connections.close_all()  # this thread's own
            self._at_it.release()
