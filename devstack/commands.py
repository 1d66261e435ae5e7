"""Commands that the set-up runs to their end, none of which outlives the call that started it."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Final, cast

from nexaportal.embedded import die_with_parent

STOP_SECONDS: Final = 5


class CommandFailedError(RuntimeError):
    """A child process ended with an error or had to be ended at its limit; the message holds the end of its output."""


def command_run(
    command: Sequence[str],
    *,
    limit_seconds: float,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """Run a command to its end and give the last 200 lines of its output (both streams). Its process group never outlives the call.

    Raises `CommandFailedError` on a non-zero status, at the limit, and where there is no such command.
    """
    lines: collections.deque[str] = collections.deque(maxlen=200)
    with child_process(command, environment, subprocess.STDOUT) as child:
        late = threading.Event()

        def stop() -> None:
            late.set()
            _group_signal(child.pid, signal.SIGKILL)

        timer = threading.Timer(limit_seconds, stop)
        timer.start()
        try:
            for raw in cast("IO[bytes]", child.stdout):
                line = raw.decode(errors="replace").rstrip()
                lines.append(line)
                if on_line and line:
                    on_line(line)
            status = child.wait()
        finally:
            timer.cancel()
    if late.is_set():
        raise CommandFailedError(f"{command[0]} did not end within {limit_seconds:g} s. {_tail(lines)}")
    if status:
        raise CommandFailedError(f"{command[0]} ended with status {status}. {_tail(lines)}")
    return list(lines)


@contextlib.contextmanager
def child_process(command: Sequence[str], environment: Mapping[str, str] | None, errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process in its own group, so that a terminal's Ctrl-C is ours alone; on leaving, the group is ended. Its `stdout` is a pipe."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=None if environment is None else dict(environment),
            start_new_session=True,
            # The kernel ties this to the thread that starts the child; another thread may end before its child does.
            preexec_fn=die_with_parent(signal.SIGKILL) if in_main_thread else None,  # noqa: PLW1509  # takes no lock
        )
    except OSError as error:
        raise CommandFailedError(f"{command[0]} can't be started: {error}") from error
    try:
        yield child
    finally:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            _group_signal(child.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=STOP_SECONDS)
        if child.stdout:
            child.stdout.close()


def _group_signal(group: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signum)


def _tail(lines: Sequence[str]) -> str:
    return "Its last lines:\n" + "\n".join(list(lines)[-15:]) if lines else "It wrote nothing."
