"""The watch over manners while the machine can't be read: what its owner says counts all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from workers.intent import Intent, IntentKind
from workers.intent_file import intent_write
from workers.manners import MachineReading, Manners
from workers.manners_watch import READ_SECONDS, MannersWatch


class Conversation:
    def wake(self) -> None:
        """Nobody is talked to."""

    def withdraw(self) -> None:
        """Nothing is asked for."""


class Machine:
    """On battery. Its driver hangs from the reading number `hangs_from` on, until `over` is set."""

    def __init__(self, *, hangs_from: int) -> None:
        self.hangs_from = hangs_from
        self.readings = 0
        self.over = threading.Event()

    def read(self) -> MachineReading:
        self.readings += 1
        if self.readings >= self.hangs_from:
            self.over.wait(60)
        return MachineReading(local=datetime.now().astimezone(), on_battery=True, cpu_percent=1)


@contextmanager
def watching(folder: Path, machine: Machine, *, believed_seconds: float = 30) -> Iterator[MannersWatch]:
    watch = MannersWatch(
        Manners(), home_folder=folder, read=machine.read, owed=lambda: False, stop=lambda: None, believed_seconds=believed_seconds
    )
    watch.start(Conversation())
    try:
        yield watch
    finally:
        machine.over.set()
        watch.close()


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def code(watch: MannersWatch) -> str | None:
    hold = watch.hold()
    return None if hold is None else hold.code


def test_driver_that_hangs_from_the_start_keeps_no_pause_away(tmp_path: Path) -> None:
    with watching(tmp_path, Machine(hangs_from=1)) as watch:
        assert (code(watch), watch.load()) == (None, None)
        intent_write(tmp_path, Intent(kind=IntentKind.PAUSE))
        wait_for(lambda: code(watch) == "paused_by_owner")


def test_reading_that_is_too_old_is_not_known_any_more_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(hangs_from=2)
    with watching(tmp_path, machine, believed_seconds=READ_SECONDS + 1) as watch:
        assert (code(watch), watch.load() is None) == ("on_battery", False)
        wait_for(lambda: code(watch) is None)
        assert watch.load() is None
        intent_write(tmp_path, Intent(kind=IntentKind.DRAIN))
        wait_for(lambda: code(watch) == "draining")
        assert caplog.text.count("can't be read") == 1
        machine.over.set()
