"""The supervisor with real processes and real signals. Each stack runs in a Python of its own, so that it can be signalled and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.processes import Interrupts, ProcessEndedError, ProcessNotReadyError, StackInterrupted, Supervisor

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"]}
SLEEPER = ["sleep", "600"]
STUBBORN = ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 600 & wait $!; done"]


def wait_until(condition: Callable[[], bool], *, limit_seconds: float = 20) -> None:
    limit = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < limit, "the condition did not come true in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Zombies count as gone: they await a parent that may be slow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Interrupts() as interrupts, Supervisor(interrupts, stop_timeout_seconds=0.5) as running:
        yield running


def test_child_writes_to_its_log_and_leads_its_own_session(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start("echo", ["bash", "-c", "echo hello; exec sleep 600"], env=ENVIRONMENT, log_path=tmp_path / "deep" / "echo.log")
    supervisor.wait_ready(child, lambda: child.log_tail() == "hello", timeout_seconds=10)
    assert child.is_alive
    assert child.exit_status is None
    assert os.getsid(child.pid) == child.pid
    supervisor.expect_alive()


def test_a_killed_child_is_started_again_as_before_and_in_its_place(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "echo $0 in $PWD; exec sleep 600"
    first = supervisor.start("first", ["bash", "-c", script, "one"], env=ENVIRONMENT, log_path=tmp_path / "log", cwd=tmp_path)
    second = supervisor.start("second", SLEEPER, env=ENVIRONMENT, log_path=tmp_path / "second")
    supervisor.wait_ready(first, lambda: first.log_tail() != "", timeout_seconds=10)
    os.killpg(first.pid, signal.SIGKILL)

    again = supervisor.restart(first)

    supervisor.wait_ready(again, lambda: again.log_tail().count(f"one in {tmp_path}") == 2, timeout_seconds=10)
    assert (again.pid != first.pid, again.is_alive, is_alive(first.pid)) == (True, True, False)
    assert supervisor.children == (again, second)


def test_a_running_child_is_ended_before_it_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    stubborn = supervisor.start("stubborn", STUBBORN, env=ENVIRONMENT, log_path=tmp_path / "log")
    again = supervisor.restart(stubborn)
    assert (is_alive(stubborn.pid), again.is_alive) == (False, True)


def test_stop_ends_children_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    script = 'trap "echo $0 >> order; exit 0" TERM; echo ready; while :; do sleep 600 & wait $!; done'
    for name in ("one", "two", "three"):
        child = supervisor.start(name, ["bash", "-c", script, name], env=ENVIRONMENT, log_path=tmp_path / f"{name}.log", cwd=tmp_path)
        supervisor.wait_ready(child, lambda child=child: child.log_tail() == "ready", timeout_seconds=10)  # type: ignore[misc]
    supervisor.stop_all()
    assert (tmp_path / "order").read_text().split() == ["three", "two", "one"]
    assert supervisor.children == ()


def test_children_of_one_group_share_the_time_to_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    children = [supervisor.start(f"host-{n}", STUBBORN, env=ENVIRONMENT, log_path=tmp_path / f"{n}.log", group="hosts") for n in range(4)]
    for child in children:
        supervisor.wait_ready(child, lambda child=child: child.log_tail() == "ready", timeout_seconds=10)  # type: ignore[misc]
    start = time.monotonic()
    supervisor.stop_all()
    assert time.monotonic() - start < 4 * 0.5
    assert not any(is_alive(child.pid) for child in children)


def test_stop_kills_what_ignores_sigterm_and_its_own_children(supervisor: Supervisor, tmp_path: Path) -> None:
    argv = ["bash", "-c", "trap '' TERM; sleep 600 & echo $!; while :; do wait; done"]
    child = supervisor.start("stubborn", argv, env=ENVIRONMENT, log_path=tmp_path / "log")
    supervisor.wait_ready(child, lambda: child.log_tail().isdigit(), timeout_seconds=10)
    grandchild = int(child.log_tail())
    supervisor.stop_all()
    wait_until(lambda: not is_alive(grandchild))
    assert child.process.returncode == -signal.SIGKILL


def test_stop_kills_the_orphans_of_a_child_that_ended(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start("brief", ["bash", "-c", "sleep 600 & echo $!"], env=ENVIRONMENT, log_path=tmp_path / "log")
    wait_until(lambda: not child.is_alive)
    orphan = int(child.log_tail())
    assert is_alive(orphan)
    supervisor.stop_all()
    wait_until(lambda: not is_alive(orphan))


def test_child_that_ends_early_is_reported_with_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start("web", ["bash", "-c", "echo port in use; exit 3"], env=ENVIRONMENT, log_path=tmp_path / "log")
    with pytest.raises(ProcessEndedError, match=r"(?s)web ended with 3 .*port in use"):
        supervisor.wait_ready(child, lambda: False, timeout_seconds=20)
    with pytest.raises(ProcessEndedError, match=r"(?s)web ended with 3;.*port in use"):
        supervisor.expect_alive()


def test_child_that_a_signal_ended_is_reported_with_the_signal(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start("web", SLEEPER, env=ENVIRONMENT, log_path=tmp_path / "log")
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not child.is_alive)
    assert child.exit_status == -signal.SIGKILL


def test_child_that_is_not_ready_in_time_is_reported(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start("web", SLEEPER, env=ENVIRONMENT, log_path=tmp_path / "log")
    with pytest.raises(ProcessNotReadyError, match=r"web was not ready within 0\.1 s"):
        supervisor.wait_ready(child, lambda: False, timeout_seconds=0.1)


def test_program_that_is_not_there_leaves_nothing_to_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        supervisor.start("absent", ["/no/such/program"], env=ENVIRONMENT, log_path=tmp_path / "log")
    assert supervisor.children == ()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_raises_once_and_handlers_come_back(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with Interrupts():
        with pytest.raises(StackInterrupted) as caught:
            signal.raise_signal(signum)
        signal.raise_signal(signum)
    assert caught.value.exit_status == 128 + signum
    assert signal.getsignal(signum) is before


def test_shield_holds_an_interrupt_back_until_its_end() -> None:
    finished = False

    def shielded() -> None:
        nonlocal finished
        with Interrupts() as interrupts, interrupts.shield():
            signal.raise_signal(signal.SIGINT)
            finished = True

    with pytest.raises(StackInterrupted):
        shielded()
    assert finished


def test_shield_lets_the_error_of_its_block_through() -> None:
    def shielded() -> None:
        with Interrupts() as interrupts, interrupts.shield():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        shielded()


STACK = """
import sys
from pathlib import Path
from devstack.processes import Interrupts, StackInterrupted, Supervisor
folder = Path(sys.argv[1])
stubborn = ["bash", "-c", "trap '' TERM; while :; do sleep 600 & wait $!; done"]
try:
    with Interrupts() as interrupts, Supervisor(interrupts, stop_timeout_seconds=1) as supervisor:
        for number in range(40):
            child = supervisor.start(str(number), stubborn if number % 20 == 0 else ["sleep", "600"], env={}, log_path=folder / str(number))
            print(child.pid, flush=True)
        print("up", flush=True)
        supervisor.wait_ready(child, lambda: False, timeout_seconds=600)
except StackInterrupted as interrupt:
    sys.exit(interrupt.exit_status)
"""


def stack_start(folder: Path, *, ignore_sigint: bool = False) -> subprocess.Popen[str]:
    prefix = ["bash", "-c", "trap '' INT; exec \"$@\"", "-"] if ignore_sigint else []
    return subprocess.Popen([*prefix, sys.executable, "-c", STACK, str(folder)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def processes_with_log_in(folder: Path) -> list[int]:
    """Every living process whose output goes to a file in `folder`: children of the stack that nobody told us of, too."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "fd" / "1").readlink().parent == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("lines_before", [0, 1, 7, 39, 41])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_at_any_stage_leaves_no_child(tmp_path: Path, signum: signal.Signals, lines_before: int) -> None:
    with stack_start(tmp_path) as stack:
        assert stack.stdout
        wait_until(lambda: any(tmp_path.iterdir()))
        for _ in range(lines_before):
            stack.stdout.readline()
        stack.send_signal(signum)
        stack.communicate(timeout=60)
    assert stack.returncode == 128 + signum
    assert processes_with_log_in(tmp_path) == []


def test_second_and_third_signal_while_stopping_leave_no_child(tmp_path: Path) -> None:
    with stack_start(tmp_path) as stack:
        assert stack.stdout
        while stack.stdout.readline() != "up\n":
            pass
        all_of_them = len(processes_with_log_in(tmp_path))
        stack.send_signal(signal.SIGINT)
        wait_until(lambda: len(processes_with_log_in(tmp_path)) < all_of_them)
        stack.send_signal(signal.SIGINT)
        stack.send_signal(signal.SIGTERM)
        stack.communicate(timeout=60)
    assert stack.returncode == 128 + signal.SIGINT
    assert processes_with_log_in(tmp_path) == []


def test_sigint_counts_where_the_shell_had_it_ignored(tmp_path: Path) -> None:
    with stack_start(tmp_path, ignore_sigint=True) as stack:
        assert stack.stdout
        stack.stdout.readline()
        stack.send_signal(signal.SIGINT)
        stack.communicate(timeout=60)
    assert stack.returncode == 128 + signal.SIGINT


def test_killed_stack_takes_its_children_along(tmp_path: Path) -> None:
    script = STACK.replace("stubborn if number % 20 == 0 else ", "")
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout
        while stack.stdout.readline() != "up\n":
            pass
        assert len(processes_with_log_in(tmp_path)) == 40
        stack.kill()
    wait_until(lambda: processes_with_log_in(tmp_path) == [])
