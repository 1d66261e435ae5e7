"""Whether the container engine is there: while it is away no work is asked for, and when it is back, what was left in it is removed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from workers.protocol.messages.exchange import NoWork
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.interface import Runtime, RuntimeFailureError

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
LOOK_AWAY_SECONDS: Final = 1.0
TIDY_LOOKS: Final = 12
"""Looks between two removals of containers that a run could not remove itself: a minute."""

AWAY: Final = NoWork(
    code="engine_away", message="The container engine does not answer. Start it, and let this user use it: `nexa doctor` says how."
)


class EngineWatch:
    """A thread that looks. `keep` names the containers that are nobody's leftovers; `changed` is called when `hold` changes."""

    def __init__(self, runtime: Runtime, *, home_id: str, keep: Callable[[], Collection[str]], changed: Callable[[], None]) -> None:
        self._runtime = runtime
        self._home_id = home_id
        self._keep = keep
        self._changed = changed
        self._hold: NoWork | None = AWAY
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nexa-engine-watch", daemon=True)

    def start(self) -> None:
        """Begin to look; the first look has been taken when this returns."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def hold(self) -> NoWork | None:
        """Why no work is wanted, if so: `engine_away`, `engine_limits_ignored`, `engine_unfit`."""
        return self._hold

    def _loop(self) -> None:
        looks = 0
        while not self._stopping.wait(LOOK_SECONDS if self._hold is None else LOOK_AWAY_SECONDS):
            looks += 1
            try:
                self._look(tidy=looks % TIDY_LOOKS == 0)
            except Exception:
                log.exception("a fault of this software in the watch over the engine")

    def _look(self, *, tidy: bool = False) -> None:
        before = self._hold
        try:
            if not self._runtime.alive():
                self._hold = AWAY
            elif before is not None or tidy:
                # It may have come back as another one: upgraded, or set up differently.
                if before is not None:
                    self._runtime.reconnect()
                self._hold = limits_hold(self._runtime)
                self._runtime.leftovers_remove(self._home_id, keep=self._keep)
        except RuntimeFailureError as error:
            log.warning("%s", error)
            self._hold = AWAY
        if self._hold != before:
            log.warning("%s", self._hold.message if self._hold else "the container engine answers")
            self._changed()


def limits_hold(runtime: Runtime) -> NoWork | None:
    """Why an engine is not to be used although it answers, or None. Raises RuntimeFailureError."""
    try:
        ignored = runtime.profile().limits_ignored
    except RuntimeFailureError as error:
        if error.failure.code is not FailureCode.HOST_REFUSED:
            raise
        return NoWork(code="engine_unfit", message=error.failure.message)
    if not ignored:
        return None
    message = (
        f"The container engine would ignore the limits {', '.join(ignored)}, so no jobs are taken. `nexa profile` shows the engine; "
        "a rootless engine needs cgroup v2 with delegated controllers."
    )
    return NoWork(code="engine_limits_ignored", message=message)
