"""Children of tests: the server and the confinement are those of jobs.checking.child, but the work is what an intruder would do.

Started by `ChildServer(entry="tests.jobs.checking.hostile")`; nothing of production can name it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.checking.child import MARKER, serve
from jobs.checking.confinement import cpu_allow
from jobs.checking.documents import OWN_CHECKS, Finding, Outcome
from jobs.checking.wire import Said, TaskReader, line_encode

FIOSETOWN = 0x8901


def main() -> None:
    serve(socket.socket(fileno=int(sys.argv[2])), Path(sys.argv[1]), work)


def work(channel: socket.socket, marker: mmap.mmap) -> None:
    """A line of JSON `{"do": ..., ...}` is tried, and what came of it told; anything else is tasks, of which some replicas are hostile."""
    if channel.recv(1, socket.MSG_PEEK) == b"{":
        with channel.makefile("rb") as lines:
            asked = json.loads(lines.readline())
        channel.sendall(json.dumps(_attempt(ATTEMPTS[asked.pop("do")], asked)).encode())
        return
    for task in TaskReader(channel):
        for number in task.pieces:
            MARKER.pack_into(marker, 0, task.number, number)
            places = task.document.pieces()[number]
            replica_id = task.document.replicas[places[0]].replica_id
            if task.told_at_once and len(places) == 1:
                channel.sendall(line_encode(Said(task.number, number, False, [Finding(replica_id, "signature", passed=True)])))
            TRICKS.get(replica_id.partition("-")[0], _nothing)(channel)
            found: list[Outcome] = [Finding(replica_id, name, passed=True) for name in OWN_CHECKS]
            if len(places) == 2:
                other_id = task.document.replicas[places[1]].replica_id
                TRICKS.get(other_id.partition("+")[0], _nothing)(channel)
                found = [Finding(replica_id, "comparison", passed=True, other_id=other_id)]
            channel.sendall(line_encode(Said(task.number, number, True, found)))


def _attempt(step: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return {"result": step(**arguments)}
    except (OSError, MemoryError, LookupError) as error:
        return {"error": type(error).__name__, "errno": getattr(error, "errno", None)}


def _allocate(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def _spin() -> None:
    cpu_allow(0)
    while True:
        pass


def _write(path: str) -> int:
    with Path(path).open("wb") as file:
        return file.write(b"x")


def _read(path: str) -> str:
    return Path(path).read_bytes().decode("utf-8", "replace")


def _connect(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as made:
        return made.recv(10).decode()


def _abstract(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect("\0" + name)
        return "connected"


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def _program() -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606  what is tried


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _descriptors() -> list[int]:
    found = []
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            found.append(descriptor)
    return found


def _kill(pid: int) -> None:
    os.kill(pid, 9)


def _limit(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))


def _owner(pid: int) -> None:
    fcntl.fcntl(0, fcntl.F_SETOWN, pid)


def _signal(number: int) -> None:
    fcntl.fcntl(0, fcntl.F_SETSIG, number)


def _owner_otherwise(pid: int) -> None:
    fcntl.ioctl(0, FIOSETOWN, pid.to_bytes(4, "little"))


def _mode(path: str) -> None:
    Path(path).chmod(0)


def _cut(path: str) -> None:
    os.truncate(path, 0)


def _user() -> list[int]:
    return [os.getuid(), os.geteuid(), os.getgid(), len(os.getgroups())]


def _limits() -> dict[str, list[int]]:
    return {name: list(resource.getrlimit(getattr(resource, name))) for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC")}


ATTEMPTS: dict[str, Callable[..., Any]] = {
    "allocate": _allocate,
    "spin": _spin,
    "write": _write,
    "read": _read,
    "connect": _connect,
    "abstract": _abstract,
    "fork": _fork,
    "program": _program,
    "environment": _environment,
    "descriptors": _descriptors,
    "kill": _kill,
    "limit": _limit,
    "owner": _owner,
    "signal": _signal,
    "owner_otherwise": _owner_otherwise,
    "mode": _mode,
    "cut": _cut,
    "user": _user,
    "limits": _limits,
    "sleep": time.sleep,
}


def _nothing(_: socket.socket) -> None:
    """What honest replicas do to a child."""


def _eats(_: socket.socket) -> None:
    bytearray(4 * 2**30)


def _crashes(_: socket.socket) -> None:
    ctypes.string_at(0)


def _spins(_: socket.socket) -> None:
    _spin()


def _babbles(channel: socket.socket) -> None:
    channel.sendall(b"[" * 300_000)
    time.sleep(60)


def _lies(channel: socket.socket) -> None:
    said = Said(1, 0, True, [Finding("another", "signature", passed=True)])
    channel.sendall(line_encode(said))
    time.sleep(60)


def _chatters(channel: socket.socket) -> None:
    """Words of the piece in hand, for ever: the first frame's, the only one that it can know."""
    line = line_encode(Said(1, 0, False, []))
    with contextlib.suppress(OSError):
        while True:
            channel.sendall(line)
            time.sleep(0.01)


def _leaves(channel: socket.socket) -> None:
    channel.shutdown(socket.SHUT_RDWR)
    time.sleep(60)


TRICKS: dict[str, Callable[[socket.socket], None]] = {
    "eats": _eats,
    "crashes": _crashes,
    "spins": _spins,
    "babbles": _babbles,
    "lies": _lies,
    "leaves": _leaves,
    "chatters": _chatters,
}
