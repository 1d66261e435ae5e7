"""Watches over a worker's manners: looks at what the contributor told this node and at the machine, and keeps the hold that follows.

The lease client asks `hold` before each exchange. When a hold begins, an exchange that is asking for work is broken off; the order that it
may have brought on its way is carried out like any other. A drain ends the worker once nothing is owed any more.

The machine is read in a thread of its own: a driver that hangs keeps nobody from `nexa pause`, `nexa drain` or the hours. What was read too
long ago is not known any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from workers.home import HomeError
from workers.intent_file import intent_read
from workers.journal import JournalError
from workers.manners import HoldCode, MachineReading, Manners, holds
from workers.protocol.messages.exchange import MachineLoad, NoWork

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""Between looks at what the contributor told."""
READ_SECONDS: Final = 5.0
"""Between looks at the machine, which cost more."""
READING_SECONDS_MAX: Final = 30.0
"""How long what was read of the machine is believed."""
FIRST_SECONDS: Final = 3.0
"""How long the first reading is waited for, which may have to start programs and load drivers."""
_END_SECONDS: Final = 5.0

_UNREADABLE: Final = NoWork(
    code=HoldCode.PAUSED_BY_OWNER,
    message="What this host was told by its owner can't be read (intent.json in the node home), so it takes no work until `nexa resume`.",
)


class Conversation(Protocol):
    """What the watch needs of the lease client."""

    def wake(self) -> None:
        """Talk to the coordinator soon."""

    def withdraw(self) -> None:
        """Break off an exchange that asks for work."""


class MannersWatch:
    """`hold` tells from the start; `start` it with the conversation, then `close`. Stops nothing but by a drain."""

    def __init__(
        self,
        manners: Manners,
        *,
        home_folder: Path,
        read: Callable[[], MachineReading],
        owed: Callable[[], bool],
        stop: Callable[[], None],
        believed_seconds: float = READING_SECONDS_MAX,
    ) -> None:
        """`owed`: whether leases are open in the journal. `stop` ends this worker, as SIGTERM does; called once, after a drain."""
        self._manners = manners
        self._home_folder = home_folder
        self._owed = owed
        self._stop = stop
        self._readings = _Readings(read, believed_seconds=believed_seconds)
        self._codes: frozenset[str] = frozenset()
        self._hold: NoWork | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._readings.start()
        self._look()

    def hold(self) -> NoWork | None:
        """Why no work is wanted now, by the newest look."""
        return self._hold

    def load(self) -> MachineLoad | None:
        """What the machine does, by the newest look at it."""
        reading = self._readings.newest()
        return reading.load if reading is not None else None

    def start(self, conversation: Conversation) -> None:
        """Go on looking, and let the conversation know."""
        self._thread = threading.Thread(target=self._watch, args=(conversation,), name="nexa-manners", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._readings.stop()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _watch(self, conversation: Conversation) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                before = self._hold
                self._look()
                if self._hold != before:
                    log.info("%s", self._hold.message if self._hold else "Nothing keeps this host from work any more.")
                    conversation.wake()
                if self._hold is not None:
                    # At each look: an exchange that was being sent when the hold began could not be broken off yet.
                    conversation.withdraw()
                if self._hold is not None and self._hold.code == HoldCode.DRAINING and not self._owed():
                    log.warning("drained: nothing is left to do or to report. `nexa resume` lets this node work again.")
                    self._stop()
                    return
            except JournalError as error:
                log.error("%s", error)  # noqa: TRY400  the message says it all
            except Exception:
                log.exception("a fault of this software in the watch over manners")

    def _look(self) -> None:
        local = datetime.now().astimezone()
        reading = self._readings.newest()
        # By the clock of this look: what the owner said, and the hours, wait for no driver.
        reading = MachineReading(local=local) if reading is None else replace(reading, local=local)
        try:
            found = holds(self._manners, intent_read(self._home_folder), reading, before=self._codes)
        except HomeError:
            # Better no work than work against somebody's will.
            found = (_UNREADABLE,)
        self._codes = frozenset(hold.code for hold in found)
        self._hold = found[0] if found else None


class _Readings:
    """Reads the machine every few seconds, in a thread that a driver may keep for ever."""

    def __init__(self, read: Callable[[], MachineReading], *, believed_seconds: float) -> None:
        self._read = read
        self._believed_seconds = believed_seconds
        self._began = time.monotonic()
        self._found: tuple[float, MachineReading] | None = None
        """When the reading was begun, by the monotonic clock, and what it brought."""
        self._is_old_told = False
        self._first = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nexa-machine-reading", daemon=True)

    def start(self) -> None:
        """Begin, and wait for the first reading, but not for long."""
        self._thread.start()
        self._first.wait(FIRST_SECONDS)

    def stop(self) -> None:
        """Read no more. Does not wait: a driver in trouble may never give the thread back."""
        self._ended.set()

    def newest(self) -> MachineReading | None:
        """The newest reading; None where it is too old, or there is none."""
        found = self._found
        is_old = time.monotonic() - (found[0] if found else self._began) > self._believed_seconds
        if found is not None and not is_old:
            self._is_old_told = False
            return found[1]
        if is_old and not self._is_old_told:
            self._is_old_told = True
            log.warning("battery, users, heat and load of this machine can't be read: a driver or a program does not answer")
        return None

    def _loop(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._found = began, self._read()
            except Exception:
                log.exception("a fault of this software in reading the machine")
            self._first.set()
            self._ended.wait(READ_SECONDS)
