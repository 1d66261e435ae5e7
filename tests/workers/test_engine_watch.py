"""What the watch makes of an engine that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.workers.runtime_fake import FakeRuntime
from workers import engine_watch
from workers.engine_watch import EngineWatch
from workers.protocol.messages.exchange import NoWork

LIMIT_SECONDS = 10


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeRuntime, EngineWatch, threading.Event]]:
    monkeypatch.setattr(engine_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(engine_watch, "LOOK_AWAY_SECONDS", 0.02)
    runtime, changed = FakeRuntime(leftovers={"home": 2, "another home": 1}), threading.Event()
    watch = EngineWatch(runtime, home_id="home", keep=set, changed=changed.set)
    yield runtime, watch, changed
    watch.stop()


def code(hold: NoWork | None) -> str | None:
    return hold.code if hold else None


def test_first_look_removes_what_an_earlier_process_left(watched: tuple[FakeRuntime, EngineWatch, threading.Event]) -> None:
    runtime, watch, _ = watched
    assert code(watch.hold()) == "engine_away"  # nothing is known yet
    watch.start()
    assert (watch.hold(), runtime.leftovers) == (None, {"another home": 1})


def test_engine_that_goes_away_holds_work_back_until_it_is_back(watched: tuple[FakeRuntime, EngineWatch, threading.Event]) -> None:
    runtime, watch, changed = watched
    watch.start()
    changed.clear()
    runtime.away = True
    assert changed.wait(LIMIT_SECONDS)
    assert code(watch.hold()) == "engine_away"
    changed.clear()
    runtime.leftovers["home"] = 1
    runtime.away = False
    assert changed.wait(LIMIT_SECONDS)
    assert (watch.hold(), "home" in runtime.leftovers) == (None, False)


def test_engine_that_comes_back_without_limits_gets_no_work(watched: tuple[FakeRuntime, EngineWatch, threading.Event]) -> None:
    runtime, watch, changed = watched
    runtime.away = True
    watch.start()
    changed.clear()
    runtime.limits_ignored = ("memory",)
    runtime.away = False
    assert changed.wait(LIMIT_SECONDS)
    hold = watch.hold()
    assert hold is not None
    assert (hold.code, "memory" in hold.message) == ("engine_limits_ignored", True)
