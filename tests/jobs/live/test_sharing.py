"""One computation for many who ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.live.sharing import Shared


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_hundred_viewers_at_once_cost_one_computation() -> None:
    made: list[int] = []
    all_ask = threading.Barrier(100)

    def compute() -> int:
        made.append(1)
        return len(made)

    shared = Shared(compute, seconds=60)

    def ask() -> int:
        all_ask.wait(timeout=30)
        return shared.get()

    with ThreadPoolExecutor(100) as viewers:
        found = [viewer.result() for viewer in [viewers.submit(ask) for _ in range(100)]]
    assert found == [1] * 100


def test_an_outcome_is_made_again_when_it_is_old_or_forgotten() -> None:
    clock, made = Clock(), iter(range(10))
    shared = Shared(lambda: next(made), seconds=0.5, clock=clock)
    assert [shared.get(), shared.get()] == [0, 0]
    clock.now += 0.49
    assert shared.get() == 0
    clock.now += 0.01
    assert shared.get() == 1
    shared.forget()
    assert shared.get() == 2


def test_a_failed_computation_is_tried_by_the_next_who_asks() -> None:
    divisors = iter([0, 1])

    def compute() -> int:
        return 7 // next(divisors)

    shared = Shared(compute, seconds=1)
    with pytest.raises(ZeroDivisionError):
        shared.get()
    assert shared.get() == 7
