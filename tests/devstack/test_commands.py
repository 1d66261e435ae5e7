"""Commands of the set-up: output, failure, limit, and nothing left running."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from devstack.commands import CommandFailedError, child_process, command_run
from tests.acceptance.traces import wait_for


def _alive(pid: int) -> bool:
    """A zombie that its reaper hasn't collected yet counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went between opening and reading
        return False


def _end_expect(*pids: int) -> None:
    """That they end by themselves: a process that was sent SIGKILL still has to be given the processor to die on."""
    wait_for(lambda: not any(map(_alive, pids)), limit_seconds=10, what=lambda: f"{[pid for pid in pids if _alive(pid)]} to end")


def test_command_run_gives_both_streams_line_by_line() -> None:
    seen: list[str] = []
    lines = command_run(["sh", "-c", "echo one; echo two >&2"], limit_seconds=10, on_line=seen.append)
    assert lines == seen == ["one", "two"]


def test_command_run_from_another_thread_works() -> None:
    results: list[list[str]] = []
    thread = threading.Thread(target=lambda: results.append(command_run(["echo", "here"], limit_seconds=10)))
    thread.start()
    thread.join()
    assert results == [["here"]]


def test_failing_command_is_reported_with_the_end_of_its_output() -> None:
    with pytest.raises(CommandFailedError, match=r"status 3.*\n.*no space"):
        command_run(["sh", "-c", "echo no space; exit 3"], limit_seconds=10)


def test_missing_command_is_reported_by_name() -> None:
    with pytest.raises(CommandFailedError, match="no-such-command can't be started"):
        command_run(["no-such-command"], limit_seconds=10)


def test_command_over_its_limit_ends_together_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match=r"did not end within 0\.5 s"):
        command_run(["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; wait"], limit_seconds=0.5)
    _end_expect(int((tmp_path / "pid").read_text()))


def test_interrupt_ends_the_whole_group() -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with child_process(["sh", "-c", "sleep 600 & echo $!; wait"], None, subprocess.DEVNULL) as child:
            assert child.stdout is not None
            pids.extend([child.pid, int(child.stdout.readline())])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    _end_expect(*pids)
