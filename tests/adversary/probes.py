"""What a container tries to get at, one attempt a probe: `python3 /inputs/probes.py NAME,ARGUMENT ...` prints what became of each, as JSON.

An attempt that is refused is the name of its errno; one that succeeded is what it got. Each is made in a process of its own, so that one
that is killed for trying says so (`signal 31`) and the others go on. Standard library alone; nothing here stays or destroys.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MACHINE: Final = 0 if platform.machine() == "x86_64" else 1
_NUMBERS: Final = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clone3": (435, 435),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "setns": (308, 268),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
"""Of x86-64 and arm64: libc has no function for some, and one that has a wrapper may answer for the kernel."""


def _call(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    result = int(LIBC.syscall(ctypes.c_long(_NUMBERS[name][_MACHINE]), *arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# --- the network ------------------------------------------------------------------------------------------------------


def connect(address: str, port: str) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(2)
        made.connect((address, int(port)))
    return "connected"


def datagram(address: str, port: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        return made.sendto(b"x", (address, int(port)))


def resolve(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, 80))
    except socket.gaierror:
        return "unresolved"


def raw_socket(family: str) -> str:
    socket.socket(getattr(socket, family), socket.SOCK_RAW, 1).close()
    return "opened"


def abstract_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect("\0" + name)
    return "connected"


def unix_socket(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(path)
    return "connected"


def interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex() if Path(f"/sys/class/net/{name}").exists())


def routes() -> int:
    """Lines of the routing table after its heading."""
    return len(Path("/proc/net/route").read_text().splitlines()) - 1


def interface_up() -> str:
    """Tries to rename the only interface there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        fcntl.ioctl(made, 0x8923, b"lo".ljust(16, b"\0") + b"eth0".ljust(16, b"\0"))
    return "renamed"


# --- files and devices ------------------------------------------------------------------------------------------------


def write(path: str) -> str:
    with Path(path).open("ab") as file:
        file.write(b"x")
    return "written"


def make(path: str) -> str:
    Path(path).touch()
    return "made"


def mode(path: str) -> str:
    Path(path).chmod(0o777)
    return "changed"


def read(path: str) -> str:
    """How many bytes a file gives, up to 4096."""
    with Path(path).open("rb", buffering=0) as file:
        return f"{len(file.read(4096) or b'')} bytes"


def listing(path: str) -> list[str]:
    return sorted(os.listdir(path))  # noqa: PTH208  names only


def device(kind: str, major: str, minor: str, folder: str) -> str:
    path = f"{folder}/device"
    os.mknod(path, 0o666 | (stat.S_IFCHR if kind == "c" else stat.S_IFBLK), os.makedev(int(major), int(minor)))
    Path(path).unlink()
    return "made"


def hard_link(source: str) -> str:
    os.link(source, "/outputs/linked")
    return "linked"


def handle(path: str) -> str:
    """Opens a file by its number, which passes by all folders, as Shocker did."""
    buffer = (ctypes.c_uint * 36)(128, 1)
    _call("open_by_handle_at", -100, buffer, os.O_RDONLY)
    return path


# --- the kernel -------------------------------------------------------------------------------------------------------


def mount(kind: str, target: str) -> str:
    _call("mount", kind.encode(), target.encode(), kind.encode(), 0, None)
    return "mounted"


def remount(target: str) -> str:
    _call("mount", None, target.encode(), None, 32 | 4096, None)  # MS_REMOUNT | MS_BIND, and no MS_RDONLY
    return "writable"


def umount(target: str) -> str:
    _call("umount2", target.encode(), 2)
    return "unmounted"


def chroot(target: str) -> str:
    os.chroot(target)
    return "changed"


def unshare(flags: str) -> str:
    _call("unshare", int(flags, 16))
    return "unshared"


def setns(path: str) -> str:
    with Path(path).open("rb") as file:
        _call("setns", file.fileno(), 0)
    return "entered"


def call(name: str) -> str:
    """A system call with arguments that a kernel which lets it through would find wrong, or do no harm with."""
    _call(name, *([0] * 6))
    return "passed"


def new_keyring() -> str:
    _call("keyctl", 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    return "joined"


def become(uid: str) -> str:
    os.setresuid(int(uid), int(uid), int(uid))
    return f"uid {os.getuid()}"


def groups() -> str:
    os.setgroups([0])
    return "set"


def nice_up() -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    return "set"


def hostname() -> str:
    socket.sethostname("owned")
    return "set"


def clock() -> str:
    import time  # noqa: PLC0415  of this probe alone

    time.clock_settime(time.CLOCK_REALTIME, 0)
    return "set"


# --- other processes, and what is told --------------------------------------------------------------------------------


def processes() -> list[str]:
    """The programs of all processes that can be seen."""
    return sorted({Path(f"/proc/{pid}/comm").read_text().strip() for pid in os.listdir("/proc") if pid.isdigit()})  # noqa: PTH208  names


def signal_process(pid: str) -> str:
    os.kill(int(pid), 0)
    return "there"


def attach(pid: str) -> str:
    _call("ptrace", 16, int(pid), 0, 0)  # PTRACE_ATTACH
    return "attached"


def environment(pid: str) -> list[str]:
    return sorted(part.partition(b"=")[0].decode() for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if part)


def told(text: str) -> list[str]:
    """Files that say something about this process or machine, and hold `text`."""
    places = [f"/proc/{pid}/environ" for pid in os.listdir("/proc") if pid.isdigit()]  # noqa: PTH208  names
    places += ["/proc/cmdline", "/proc/version", "/proc/self/mountinfo", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]
    return [place for place in places if text.encode() in Path(place).read_bytes()]


def own_name() -> str:
    return socket.gethostname()


def status(field: str) -> str:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return lines[field].strip()


def limit(name: str) -> list[int]:
    import resource  # noqa: PLC0415  of this probe alone

    return list(resource.getrlimit(getattr(resource, f"RLIMIT_{name}")))


def mounts() -> dict[str, list[str]]:
    """Mount points that are not the container's own /proc, /sys and /dev, with their kind and options."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if not point.startswith(("/proc", "/sys", "/dev")):
            found[point] = [kind, *sorted(set(options.split(",")) & {"ro", "rw", "nosuid", "nodev"})]
    return found


def run(*command: str) -> str:
    """What a program prints, or how it ends."""
    import subprocess  # noqa: PLC0415  of this probe alone

    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=20)
    return done.stdout.strip() or f"status {done.returncode}"


def _attempt(name: str, arguments: list[str]) -> Any:
    """The outcome of one probe, made in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        probe: Callable[..., Any] = globals()[name]
        try:
            found = probe(*arguments)
        except OSError as error:
            found = errno.errorcode.get(error.errno or 0, str(error))
        except BaseException as error:
            found = repr(error)
        os.write(writing, json.dumps(found).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"signal {-ended}" if ended < 0 else json.loads(data)


if __name__ == "__main__":
    print(json.dumps({each: _attempt(each.split(",")[0], each.split(",")[1:]) for each in sys.argv[1:]}))
