"""A filter of system calls (seccomp, BPF) for processes that need few of them: what is named here fails with EPERM.

It refuses by name rather than permits by name: what Python and numpy call differs from release to release, and what has to be kept away is
known. It works without any privilege, also in a container whose engine permits no namespaces. Linux on x86-64 and ARM64; elsewhere there
is none. Numbers: the kernel's `unistd_64.h` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from typing import Final

_SYSTEM_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "add_key": (248, 217),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chmod": (90, None),
    "chown": (92, None),
    "chroot": (161, 51),
    "clone": (56, 220),
    "connect": (42, 203),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "finit_module": (313, 273),
    "fork": (57, None),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "fsopen": (430, 430),
    "futimesat": (261, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "lchown": (94, None),
    "listen": (50, 201),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "memfd_create": (319, 279),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "removexattr": (197, 14),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
    "vfork": (58, None),
}
_BY_ARGUMENT: Final[tuple[tuple[tuple[int, int], int, tuple[int, ...]], ...]] = (
    ((72, 25), 1, (8, 10, 15)),  # fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX
    ((16, 29), 1, (0x8901, 0x8902)),  # ioctl: FIOSETOWN, SIOCSPGRP
)
"""Numbers of calls, which argument of theirs, and values of it that are refused: signals to other processes by way of a descriptor."""
_PRLIMIT: Final = (302, 261)
"""Of this process it sets limits; of another one of the same user it ends it."""
_CLONE3: Final = 435
"""Its flags lie in memory that a filter can't see. ENOSYS makes the C library use `clone`."""

PROCESSES: Final = frozenset({"clone", "fork", "vfork", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"})
"""Making processes, and signalling them. The server of children needs it; a child doesn't."""
OTHERS: Final = frozenset(_SYSTEM_CALLS) - PROCESSES
"""Network, programs, other processes' memory and priorities, namespaces, mounts, kernel interfaces, and what Landlock lets pass: modes,
owners, attributes and times of files, and cutting them short. Neither needs these."""

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the table, and the kernel's AUDIT_ARCH constant."""
_X32_BIT: Final = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def filter_install(names: Iterable[str]) -> None:
    """Refuses these system calls from now on, and limits of other processes, here and in every process that comes of this one.

    Needs PR_SET_NO_NEW_PRIVS.
    Raises OSError where the kernel or the machine has no such filter.
    """
    program = _program(sorted(names))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions (8 bytes each) and their address, after padding.
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, fprog, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp filter not installed: {os.strerror(error)}")


def _program(names: list[str]) -> bytes:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(f"expected a machine of {sorted(_MACHINES)} for a seccomp filter; found {machine!r}")
    column, architecture = _MACHINES[machine]
    numbers = [number for name in names if (number := _SYSTEM_CALLS[name][column]) is not None]
    refuse = (_RETURN, 0, 0, _ERRNO | 1)
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),  # struct seccomp_data: nr, arch, ...
        (_EQUAL, 1, 0, architecture),
        refuse,
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32_BIT),  # the second way in on x86-64, with numbers of its own
        refuse,
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ERRNO | 38),
    ]
    for call, place, values in _BY_ARGUMENT:
        code += [(_EQUAL, 0, 2 + 2 * len(values), call[column]), (_LOAD, 0, 0, _argument(place))]
        for value in values:
            code += [(_EQUAL, 0, 1, value), refuse]
        code.append((_RETURN, 0, 0, _ALLOW))
    # 0 is the caller itself.
    code += [(_EQUAL, 0, 4, _PRLIMIT[column]), (_LOAD, 0, 0, _argument(0)), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW), refuse]
    for number in numbers:
        code += [(_EQUAL, 0, 1, number), refuse]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def _argument(place: int) -> int:
    """Where in seccomp_data the low half of an argument is; both machines are little-endian, and these arguments are of 32 bits."""
    return 16 + 8 * place
