"""Ids are in the order of time, and nothing else is in them."""

from __future__ import annotations

import time
from uuid import RFC_4122

from jobs.timed_ids import timed_id_make


def test_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = timed_id_make()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_of_one_moment_are_all_different_and_those_of_a_later_one_come_after() -> None:
    made = {timed_id_make() for _ in range(10_000)}
    assert len(made) == 10_000
    moment = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == moment:
        pass
    assert timed_id_make() > max(one for one in made if one.int >> 80 <= moment)
