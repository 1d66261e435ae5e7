"""What containers print: floods, noise and silence. The host's memory stays flat, and the host's own lines stay its own."""

from __future__ import annotations

import pytest

from tests.adversary.arena import MIB, Arena
from workers.runtime.container_run import OUTPUT_BYTES_MAX

pytestmark = pytest.mark.docker


def test_gigabyte_of_lines_blocks_nobody_and_fills_no_memory(arena: Arena) -> None:
    outcome = arena.attack("flood", "1000000000", cpus=2, wall_seconds=60)
    assert (outcome.result.exit_code, outcome.failure) == (0, None)
    assert outcome.sink.bytes == OUTPUT_BYTES_MAX
    assert outcome.result.output_dropped_bytes == 1_000_000_000 - OUTPUT_BYTES_MAX
    print(f"1 GB of lines: {outcome.seconds:.1f} s, memory grew by {outcome.memory_growth_bytes / MIB:.1f} MiB at most")
    assert outcome.memory_growth_bytes < 32 * MIB
    arena.healthy_check(outcome)


def test_line_that_never_ends_comes_through(arena: Arena) -> None:
    outcome = arena.attack("endless_line", str(32 * MIB), cpus=2)
    assert (outcome.failure, outcome.sink.bytes, outcome.result.output_dropped_bytes) == (None, 32 * MIB, 0)
    assert outcome.memory_growth_bytes < 32 * MIB
    arena.healthy_check(outcome)


def test_container_that_closes_its_streams_goes_on_to_its_end(arena: Arena) -> None:
    outcome = arena.attack("stdout_closed")
    assert (outcome.result.exit_code, outcome.failure, outcome.sink.bytes) == (0, None, 0)
    assert (outcome.outputs / "done").read_text() == "done"
    arena.healthy_check(outcome)


def test_noise_comes_through_byte_by_byte(arena: Arena) -> None:
    outcome = arena.attack("noise")
    assert outcome.failure is None
    assert outcome.sink.output["stderr"].replace(b"\r\n", b"\n") == outcome.sink.output["stdout"]
    assert outcome.sink.output["stdout"].startswith(b"\xff\xfe\x00\x80\xc3(\xed\xa0\x80\n\x1b]0;owned\x07")
    arena.healthy_check(outcome)
