"""What the server of children, and then each child, gives up before it reads a stranger's byte. Linux, by system calls alone.

    namespaces   no network: a network namespace of its own, without an interface that is up
    user         root becomes nobody, and has no capability left
    Landlock     no file but the libraries of Python and of this program, and those only for reading
    seccomp      no socket, no program, no other process (seccomp.py)
    limits       memory, processor time, no file written, no process started, few open files, no core dump

Not every kernel, and not every container engine, permits each of these, so each is tried and none is relied upon: `Confinement` says what
is in force, found out by trying to do what must not be possible, not by what a call returned.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jobs.checking.seccomp import OTHERS, PROCESSES, filter_install

NOBODY: Final = 65534
FILES_OPEN_MAX: Final = 256

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER: Final = 0x10000000
_NAMESPACES: Final = 0x40000000 | 0x08000000
"""CLONE_NEWNET and CLONE_NEWIPC."""
_CAPABILITY_VERSION: Final = 0x20080522
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_READ: Final = (1 << 2) | (1 << 3)
"""LANDLOCK_ACCESS_FS_READ_FILE and READ_DIR."""
_LANDLOCK_FILES: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
"""The rights over files that each version knows; all are handled, so that all are refused but those granted."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Confinement:
    """What was found to be in force."""

    network_closed: bool
    files_closed: bool
    calls_filtered: bool
    root_left: bool

    def document(self) -> dict[str, bool]:
        return asdict(self)

    @property
    def open_doors(self) -> list[str]:
        """What is not in force, in words for an operator."""
        found = {
            "the network can be reached": self.network_closed,
            "files of the system can be read": self.files_closed,
            "system calls are not filtered": self.calls_filtered,
            "it runs as root": self.root_left,
        }
        return [what for what, closed in found.items() if not closed]


def process_hide() -> None:
    """Nobody of the same user may look into this process (its memory, its environment in /proc) any more. No effect on root's processes."""
    _prctl(_PR_SET_DUMPABLE, 0)


def server_confine(*, readable: Iterable[Path]) -> Confinement:
    """For the server of children, which is single-threaded and has imported all that they need. All of it holds for them too.

    Files under `readable` stay readable. Standard input and output become /dev/null; standard error stays, for what goes wrong here.
    """
    _tried(lambda: Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii"))  # before anything that it was started by
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for name, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, FILES_OPEN_MAX)):
        resource.setrlimit(name, (limit, limit))
    has_namespaces = _libc.unshare(_NAMESPACES) == 0
    if os.geteuid() == 0:
        _tried(_root_leave)
    root_left = os.geteuid() != 0
    if not has_namespaces:  # not root, or a root without that capability: a user namespace gives it, over namespaces of its own only
        _libc.unshare(_CLONE_NEWUSER | _NAMESPACES)
    _tried(_capabilities_drop)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _tried(lambda: _files_leave(list(readable)))
    _tried(lambda: filter_install(OTHERS))
    process_hide()
    return Confinement(
        network_closed=_fails(_network_use),
        files_closed=_fails(lambda: os.close(os.open("/etc/passwd", os.O_RDONLY))),
        calls_filtered=_exec_error() == errno.EPERM,
        root_left=root_left,
    )


def child_confine(*, memory_bytes: int, cpu_seconds: int, server: int) -> None:
    """For a child that was just forked by the process `server`. Raises OSError: a child that can't be limited must not start."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it died before the line above
        os._exit(1)
    os.dup2(0, 2)  # /dev/null
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _tried(lambda: filter_install(PROCESSES))


def cpu_allow(seconds: int) -> None:
    """This process may use so much processor time from now on; then SIGXCPU ends it. Within its hard limit."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def address_space_bytes() -> int:
    """How much of it this process has mapped."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _root_leave() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _capabilities_drop() -> None:
    """Those that come with a user namespace of one's own."""
    head = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    if _libc.capset(head, ctypes.create_string_buffer(24)) != 0:
        raise _error("capset")


def _files_leave(readable: list[Path]) -> None:
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        raise _error("landlock_create_ruleset")
    rights = _LANDLOCK_FILES[min(version, max(_LANDLOCK_FILES))]
    # Version 4 knows TCP (bind and connect), version 6 abstract sockets and signals to processes outside.
    members = [rights, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = ctypes.create_string_buffer(struct.pack(f"{len(members)}Q", *members), 8 * len(members))
    ruleset = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(8 * len(members)), 0)
    if ruleset < 0:
        raise _error("landlock_create_ruleset")
    for path in readable:
        try:
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # what this user can't reach needs no permission
            continue
        rule = ctypes.create_string_buffer(struct.pack("=Qi", _LANDLOCK_READ, folder), 12)
        found = _libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(folder)
        if found != 0:
            raise _error("landlock_add_rule")
    found = _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    if found != 0:
        raise _error("landlock_restrict_self")


def _network_use() -> None:
    """Works wherever there is any network, if only the loopback: nothing listens there, and nothing need to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", 9))


def _exec_error() -> int | None:
    """What the kernel says to the start of a folder: EPERM from the filter, EACCES without one."""
    try:
        os.execv("/", ["/"])  # noqa: S606  there is nothing that it could start
    except OSError as error:
        return error.errno


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _error("prctl")


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def _tried(step: Callable[[], object]) -> None:
    try:
        step()
    except OSError:
        return  # what is in force is found out afterwards


def _fails(step: Callable[[], object]) -> bool:
    try:
        step()
    except OSError:
        return True
    return False
