"""One computation for all who ask at about the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The newest outcome of `compute`, made again when it is older than `seconds`. While one caller computes, others wait for it.

    One a process: with several web processes, each computes for its own viewers. Not for what depends on who asks.
    """

    def __init__(self, compute: Callable[[], T], *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._compute = compute
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, T] | None = None

    def get(self) -> T:
        """Raises what `compute` raises; the next caller tries again."""
        with self._lock:
            if self._found is None or self._clock() - self._found[0] >= self._seconds:
                outcome = self._compute()
                self._found = (self._clock(), outcome)  # its age counts from when it was there, however long it took
            return self._found[1]

    def forget(self) -> None:
        """Has the next caller compute: what the outcome was made from is gone."""
        with self._lock:
            self._found = None
