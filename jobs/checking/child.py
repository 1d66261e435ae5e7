"""The child process in which strangers' bytes are read, and the server that forks one for each slice of jobs.

    verify worker --exec--> server (imports, gives up what it can, waits) --fork--> child (gives up the rest, checks one slice, ends)

1. The server is a fresh program with an empty environment and one inherited descriptor: the control socket. It sees no stranger's byte,
   so that each child starts clean; it is there because imports take a fifth of a second, and a fork a few milliseconds.
2. A request brings two sockets and the limits: the channel, on which the child is given frames and answers lines (wire.py), and the leash,
   on which the server tells how the child ended, and at which piece of which job it was (the marker). The end of the leash kills
   the child: so does the worker's own death.
3. The control socket's end is the server's end.

Nothing here or below imports Django; the worker's side is children.py.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import mmap
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobs.checking.confinement import address_space_bytes, child_confine, cpu_allow, server_confine
from jobs.checking.documents import Outcome
from jobs.checking.endings import EXIT_FAULT, EXIT_MEMORY
from jobs.checking.pairs import JobCheck
from jobs.checking.warming import warm_up
from jobs.checking.wire import Said, TaskReader, line_encode

REQUEST_BYTES_MAX: Final = 4096

HELD_BACK_SECONDS: Final = 0.01
"""What is known may be told this much later: one word for many small pieces."""

Work = Callable[[socket.socket, mmap.mmap], None]
"""Works off a channel, and writes into the marker which piece of which job it begins: MARKER is what it holds."""
MARKER: Final = struct.Struct("=QQ")


def main() -> None:
    """The program of the server: `-c "... main()" ROOT CONTROL`."""
    serve(socket.socket(fileno=int(sys.argv[2])), Path(sys.argv[1]), tasks_work)


def tasks_work(channel: socket.socket, marker: mmap.mmap) -> None:
    """The child's work: each task that comes, until there are no more."""
    reader = TaskReader(channel)
    told = _Told(channel)
    armed_seconds, armed_at = 0, 0.0
    for task in reader:
        check = JobCheck(task.document)
        pieces = task.document.pieces()
        for number, cpu_seconds in zip(task.pieces, task.cpu_seconds, strict=True):
            MARKER.pack_into(marker, 0, task.number, number)
            now = time.monotonic()
            if cpu_seconds != armed_seconds or now > armed_at + 1:  # two system calls; a second more or less does not matter
                told.flush()  # its supervisor's clock for a long piece begins when the one before is known to be done
                cpu_allow(cpu_seconds)
                armed_seconds, armed_at = cpu_seconds, now
            found: list[Outcome] = []
            for outcome in check.outcomes(pieces[number]):
                found.append(outcome)
                if task.told_at_once:
                    told.add(Said(task.number, number, False, found))
                    told.flush()
                    found = []
            told.add(Said(task.number, number, True, found))
        if not reader.pending():
            told.flush()


class _Told:
    """Lines that are held back for a moment."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = bytearray()
        self._since = 0.0

    def add(self, said: Said) -> None:
        now = time.monotonic()
        if not self._lines:
            self._since = now
        self._lines += line_encode(said)
        if now > self._since + HELD_BACK_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._channel.sendall(self._lines)
            self._lines.clear()


def serve(control: socket.socket, root: Path, work: Work) -> None:
    """Forks a child for each request until the control socket ends. `root` is the folder that holds this program."""
    warm_up()
    base_bytes = address_space_bytes()
    libraries = [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != root.resolve()]
    found = server_confine(readable=[path for path in (*libraries, root / "jobs", root / "workers") if path.exists()])
    control.send(json.dumps(found.document()).encode("ascii"))
    gc.collect()
    gc.freeze()
    _Server(control, base_bytes, work).run()


class _Server:
    def __init__(self, control: socket.socket, base_bytes: int, work: Work) -> None:
        self._control, self._base_bytes, self._work = control, base_bytes, work
        self._leashes: dict[int, tuple[socket.socket, mmap.mmap]] = {}
        """By process id, with the marker that the process shares with this one."""
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        # A stop of the worker is signalled to its whole group at times: what runs is finished, and the worker's end is ours.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._request_take():
                        return
                elif key.fileobj == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._ended_tell()
                elif key.data in self._leashes and self._leashes[key.data][0] is key.fileobj:
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)

    def _request_take(self) -> bool:
        """Starts the child that is asked for. False: the worker is gone, and with this process go its children (PR_SET_PDEATHSIG)."""
        data, ancillary, _, _ = self._control.recvmsg(REQUEST_BYTES_MAX, socket.CMSG_SPACE(8))
        if not data:
            return False
        limits = json.loads(data)
        channel, leash = (socket.socket(fileno=descriptor) for descriptor in array.array("i", ancillary[0][2]))
        marker = mmap.mmap(-1, MARKER.size)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child(channel, marker, server, limits["memory_bytes"], limits["cpu_seconds"])
        channel.close()
        self._leashes[pid] = (leash, marker)
        self._selector.register(leash, selectors.EVENT_READ, pid)
        return True

    def _child(self, channel: socket.socket, marker: mmap.mmap, server: int, memory_bytes: int, cpu_seconds: int) -> None:
        code = EXIT_FAULT
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep = channel.fileno()
            os.closerange(3, keep)
            os.closerange(keep + 1, 4096)
            for _, other in self._leashes.values():  # it could say in their place what they do
                other.close()
            child_confine(memory_bytes=self._base_bytes + memory_bytes, cpu_seconds=cpu_seconds, server=server)
            self._work(channel, marker)
            code = 0
        except MemoryError:
            code = EXIT_MEMORY
        finally:
            os._exit(code)

    def _ended_tell(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            leash, marker = self._leashes.pop(pid)
            with contextlib.suppress(KeyError):  # it was pulled
                self._selector.unregister(leash)
            with contextlib.suppress(OSError):  # nobody wants to know any more
                leash.send(json.dumps([os.waitstatus_to_exitcode(status), *MARKER.unpack_from(marker)]).encode("ascii"))
            leash.close()
            marker.close()
