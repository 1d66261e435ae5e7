"""Child processes of a stack: started, watched, and ended whatever happens.

Rules of this file:

1. SIGINT, SIGTERM and SIGHUP all raise `StackInterrupted` once, in the main thread. Later ones change nothing: the
   stack is already stopping.
2. Between the start of a child and its entry in the list no interrupt is raised (`Interrupts.shield`), nor while
   stopping: no child is ever forgotten.
3. Every child is the leader of its own session, so a terminal's Ctrl-C is ours alone; and the kernel ends it when we
   are killed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from nexaportal.embedded import die_with_parent

_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StackInterrupted(BaseException):
    """Somebody asked the stack to stop. Not an `Exception`: nothing on the way may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_status(self) -> int:
        """What a shell reports for a program that this signal ended."""
        return 128 + self.signum


class ProcessError(RuntimeError):
    """A child did not do what was expected. Subclasses: ProcessEndedError, ProcessNotReadyError."""


class ProcessEndedError(ProcessError):
    """A child ended by itself; the message holds the end of its log."""


class ProcessNotReadyError(ProcessError):
    """A child runs but is not ready in time; the message holds the end of its log."""


class Interrupts:
    """Turns signals into one `StackInterrupted`. A context manager for the main thread."""

    def __init__(self) -> None:
        self._shields = 0
        self._pending: int | None = None
        self._raised = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Set even where the signal is ignored, as it is for a background job of a shell script.
        for signum in _SIGNALS:
            self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)
        self._previous.clear()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._raised:
            return
        if self._shields:
            self._pending = self._pending or signum
            return
        self._raised = True
        raise StackInterrupted(signum)

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Holds an interrupt back until the block ends; it is raised then, unless the block itself failed."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if not self._shields and self._pending is not None and not self._raised:
            self._raised = True
            raise StackInterrupted(self._pending)

    @contextlib.contextmanager
    def ignore(self) -> Iterator[None]:
        """From here on an interrupt is only noted: for the stopping itself, which must run to its end."""
        self._raised = True
        yield


@dataclass(frozen=True)
class Child:
    """A process that the supervisor started. `pid` is also its session and process group."""

    name: str
    log_path: Path
    process: subprocess.Popen[bytes]
    pidfd: int
    group: str
    launch: Callable[[], subprocess.Popen[bytes]]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return not _has_ended(self.pidfd, 0)

    @property
    def exit_status(self) -> int | None:
        """Its status (negative: the signal that ended it), or None while it runs. Does not reap it."""
        if self.is_alive:
            return None
        if self.process.returncode is not None:
            return self.process.returncode
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def log_tail(self, size_bytes: int = 2000) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - size_bytes))
            return log.read().decode(errors="replace").strip()
        return "(no log)"


class Supervisor:
    """Starts processes in order and stops them in reverse order. A context manager; restarts nothing by itself.

    Use it inside `Interrupts`, in the main thread.
    """

    def __init__(self, interrupts: Interrupts, *, stop_timeout_seconds: float = 15.0) -> None:
        self._interrupts = interrupts
        self._stop_timeout_seconds = stop_timeout_seconds
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        atexit.register(self.stop_all)  # For an interrupt in the very moment between body and __exit__.
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_all()
        atexit.unregister(self.stop_all)

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(self._children)

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path, cwd: Path | None = None, group: str | None = None
    ) -> Child:
        """Starts a process that appends its output to `log_path`. Neighbours of one `group` are stopped together."""

        def launch() -> subprocess.Popen[bytes]:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            with log_path.open("ab") as log:
                return subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 -- it takes no lock and imports nothing
                )

        with self._interrupts.shield():
            process = launch()
            child = Child(name, log_path, process, os.pidfd_open(process.pid), group or name, launch)
            self._children.append(child)
        return child

    def restart(self, child: Child) -> Child:
        """Starts a child again as it was started, in its place among the others. What is left of it is killed first."""
        with self._interrupts.shield():
            place = self._children.index(child)
            del self._children[place]
            _bury(child)
            process = child.launch()
            again = replace(child, process=process, pidfd=os.pidfd_open(process.pid))
            self._children.insert(place, again)
        return again

    def expect_alive(self) -> None:
        """Raises `ProcessEndedError` for the first child that is gone."""
        for child in self._children:
            if not child.is_alive:
                raise ProcessEndedError(f"{child.name} ended with {child.exit_status}; the end of {child.log_path}:\n{child.log_tail()}")

    def wait_ready(self, child: Child, predicate: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Returns when `predicate` is true. Raises `ProcessEndedError` or `ProcessNotReadyError`."""
        limit = time.monotonic() + timeout_seconds
        while not predicate():
            if _has_ended(child.pidfd, _POLL_SECONDS):
                raise ProcessEndedError(f"{child.name} ended with {child.exit_status} before it was ready:\n{child.log_tail()}")
            if time.monotonic() > limit:
                raise ProcessNotReadyError(f"{child.name} was not ready within {timeout_seconds:g} s:\n{child.log_tail()}")

    def stop_all(self) -> None:
        """Ends every child, the last started first: SIGTERM, then SIGKILL to what is left of its group. Idempotent.

        Afterwards interrupts are only noted: a stopped stack has nothing left to interrupt.
        """
        with self._interrupts.ignore():
            while self._children:
                last = self._children[-1].group
                first = len(self._children)
                while first and self._children[first - 1].group == last:
                    first -= 1
                self._stop_together(self._children[first:])
                del self._children[first:]

    def _stop_together(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.is_alive:
                # The leader only: a Celery worker ends its own pool, in order.
                child.process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + self._stop_timeout_seconds
        for child in reversed(children):
            _has_ended(child.pidfd, max(0.0, limit - time.monotonic()))
            _bury(child)


def _bury(child: Child) -> None:
    """Kills what is left of the child and its group, and reaps it."""
    # Before the leader is reaped its process group number cannot be anybody else's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.process.wait()
    os.close(child.pidfd)


def _has_ended(pidfd: int, timeout_seconds: float) -> bool:
    """Waits up to this long for the end of a process, without reaping it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_seconds * 1000))
