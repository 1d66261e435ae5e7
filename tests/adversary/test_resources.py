"""Containers that take all there is: processes, memory, disk and time. Each ends with its typed failure, or harms nobody but itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.adversary.arena import MIB, Arena
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    ("attack", "limits", "code"),
    [
        (["fork_bomb"], {"wall_seconds": 2}, FailureCode.LIMIT_WALL),
        (["sleep_on"], {"wall_seconds": 1}, FailureCode.LIMIT_WALL),
        (["stop_itself"], {"wall_seconds": 1}, FailureCode.LIMIT_WALL),
        (["kill_all"], {}, FailureCode.EXIT_NONZERO),
        (["daemons"], {}, None),
        (["memory_bomb"], {}, FailureCode.LIMIT_MEMORY),
        (["memfd_bomb"], {}, FailureCode.LIMIT_MEMORY),
        # What is in the container's own filesystems is memory.
        (["fill", "/tmp"], {}, FailureCode.LIMIT_MEMORY),  # noqa: S108  a path inside of the container
        (["inodes", "/dev/shm"], {}, FailureCode.LIMIT_MEMORY),  # noqa: S108  as above
        (["inodes", "/tmp"], {"memory_bytes": 16 * MIB}, FailureCode.LIMIT_MEMORY),  # noqa: S108  as above
        # A file beyond the size that one may have ends its writer, if it doesn't look at its errors.
        (["one_file"], {}, FailureCode.LIMIT_OUTPUT),
        (["sparse"], {}, FailureCode.LIMIT_OUTPUT),
        (["fill", "/outputs"], {}, FailureCode.LIMIT_OUTPUT),
        (["fill", "/outputs"], {"output_bytes": 512 * MIB}, FailureCode.LIMIT_DISK),
        (["inodes", "/outputs"], {}, FailureCode.LIMIT_DISK),
        (["deep"], {}, FailureCode.LIMIT_DISK),
        (["unnamed"], {}, FailureCode.LIMIT_DISK),
        (["unnamed_mapped"], {}, FailureCode.LIMIT_DISK),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_taking_everything_ends_with_its_typed_failure(arena: Arena, attack: list[str], limits: Any, code: FailureCode | None) -> None:
    outcome = arena.attack(*attack, **limits)
    assert outcome.failure is code, outcome.result
    assert outcome.outputs.exists() is (code not in {FailureCode.LIMIT_DISK, FailureCode.LIMIT_OUTPUT})
    arena.healthy_check(outcome)


def test_crowd_has_as_many_processes_as_it_may(arena: Arena) -> None:
    outcome = arena.attack("fork_crowd", pids=20)
    count, why = outcome.said
    assert (outcome.failure, why) == (None, "EAGAIN")
    assert 10 <= count < 20
    arena.healthy_check(outcome)


def test_zombies_of_others_are_buried_and_own_ones_are_counted(arena: Arena) -> None:
    outcome = arena.attack("zombie_crowd", pids=40)
    assert outcome.failure is None
    orphans, dead = outcome.said
    assert orphans == 300
    assert 20 <= dead < 40
    arena.healthy_check(outcome)


def test_children_that_need_too_much_are_killed_and_nobody_else(arena: Arena) -> None:
    outcome = arena.attack("memory_bomb_of_children")
    assert (outcome.failure, outcome.said) == (None, [-9, -9, -9])
    arena.healthy_check(outcome)


def test_shared_memory_is_full_at_its_size(arena: Arena) -> None:
    outcome = arena.attack("fill", "/dev/shm")  # noqa: S108  a path inside of the container
    assert (outcome.failure, outcome.said) == (None, ["ENOSPC", 16 * MIB])
    arena.healthy_check(outcome)


def test_file_of_as_much_as_the_disk_may_hold_ends_as_one_limit_or_the_other(arena: Arena) -> None:
    """No file may be larger, and what it takes of the disk is a little more: either is seen first."""
    outcome = arena.attack("fill", "/outputs", disk_bytes=16 * MIB)
    assert outcome.failure in {FailureCode.LIMIT_DISK, FailureCode.LIMIT_OUTPUT}
    assert not outcome.outputs.exists()
    arena.healthy_check(outcome)


@pytest.mark.parametrize("attack", ["fill", "reserve", "unnamed"])
def test_fast_writer_gets_no_further_than_one_look(arena: Arena, attack: str) -> None:
    """How far, is printed; the bound is loose, since another's work may delay a look. `reserve` takes space without writing it."""
    outcome = arena.attack(attack, *(["/outputs"] if attack == "fill" else []), output_bytes=512 * MIB, cpus=2)
    assert outcome.failure in {FailureCode.LIMIT_DISK, FailureCode.LIMIT_OUTPUT}
    print(f"{attack}: the disk held {outcome.disk_peak_bytes / MIB:.0f} MiB where 64 were allowed, {outcome.seconds:.2f} s")
    if attack != "reserve":
        assert outcome.disk_peak_bytes < 1024 * MIB
    arena.healthy_check(outcome)


def test_more_descriptors_than_can_be_looked_through_are_an_excess(arena: Arena) -> None:
    outcome = arena.attack("crowded", "wait")
    assert outcome.failure is FailureCode.LIMIT_DISK, outcome.result
    assert outcome.result.failure is not None
    assert "open and mapped files" in outcome.result.failure.message
    arena.healthy_check(outcome)


def test_descriptors_keep_nobody_from_looking_at_the_folder(arena: Arena) -> None:
    """Two gigabytes would be written while one look goes through all of them."""
    outcome = arena.attack("crowded", "fill", output_bytes=512 * MIB, cpus=2)
    assert outcome.failure is FailureCode.LIMIT_DISK, outcome.result
    print(f"the disk held {outcome.disk_peak_bytes / MIB:.0f} MiB where 64 were allowed, {outcome.seconds:.2f} s")
    assert outcome.disk_peak_bytes < 1024 * MIB
    arena.healthy_check(outcome)


def test_container_is_ended_before_the_machine_itself_lacks_disk(tmp_path: Path, image_id: str) -> None:
    """Within its limits, as far as anybody sees: another takes the disk, or it holds what nobody finds."""
    disk = os.statvfs(tmp_path)
    arena = Arena(tmp_path, image_id, DockerRuntime(disk_floor_bytes=disk.f_blocks * disk.f_frsize))
    try:
        outcome = arena.run("sh", "-c", "echo 1 > /outputs/little; sleep 60")
        assert outcome.failure is FailureCode.HOST_DISK
        assert (outcome.seconds < 30, outcome.outputs.exists()) == (True, False)
    finally:
        arena.close()
