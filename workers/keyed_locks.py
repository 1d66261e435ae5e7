"""Locks by name, for things that one thread makes while others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOOK_SECONDS: Final = 0.1


class KeyedLocks:
    """A lock for each key, kept only while somebody holds it. Not reentrant."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, key: str, *, cancel: threading.Event) -> Iterator[bool]:
        """Wait for the lock; False, without it, once `cancel` is set."""
        with self._changed:
            while (free := key not in self._held) is False and not cancel.is_set():
                self._changed.wait(_LOOK_SECONDS)
            if free:
                self._held.add(key)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._held.remove(key)
                    self._changed.notify_all()

    def is_held(self, key: str) -> bool:
        """Whether somebody has it now."""
        return key in self._held
