"""The programs of hostile containers: `python3 /inputs/attacks.py NAME [ARGUMENT ...]`, with the standard library alone.

Each function is one attack. They mean it, so `main` runs them in one of our containers only. What they say, they print as one line.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

OUTPUTS: Final = Path("/outputs")
BLOCK: Final = b"\1" * 2**20
HOSTNAME: Final = "container"


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


# --- processes and time -----------------------------------------------------------------------------------------------


def fork_bomb() -> None:
    """Every process doubles itself for ever."""
    while True:
        try:
            os.fork()
        except OSError:
            continue


def fork_crowd() -> None:
    """As many sleeping children as there can be; says how many."""
    count = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(3600)
            count += 1
    except OSError as error:
        say([count, errno.errorcode[error.errno or 0]])


def zombie_crowd() -> None:
    """Orphans by the hundred, which only an init process buries, then own dead children that nobody waits for; says how many of each."""
    orphans = 0
    for _ in range(300):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.waitpid(child, 0)
        orphans += 1
    dead = 0
    try:
        while True:
            if os.fork() == 0:
                os._exit(0)
            dead += 1
    except OSError:
        say([orphans, dead])


def daemons() -> None:
    """Leaves children of other sessions behind, deaf to everything, and ends well."""
    for _ in range(10):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                _deaf()
                time.sleep(3600)
            os._exit(0)


def sleep_on() -> None:
    """Hears no signal and sleeps."""
    _deaf()
    say("asleep")
    time.sleep(3600)


def stop_itself() -> None:
    """Stopped by a signal, and never continued."""
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_all() -> None:
    """Shoots at the init process, then at everybody."""
    os.kill(1, signal.SIGKILL)
    os.kill(-1, signal.SIGKILL)


def _deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_bomb() -> None:
    held = []
    while True:
        held.append(BLOCK + BLOCK)


def memory_bomb_of_children() -> None:
    """The bombs are children, so that the first process survives them, and says how many were killed."""
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            memory_bomb()
        children.append(child)
    say([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def memfd_bomb() -> None:
    """Memory that belongs to a file that has no name."""
    descriptor = os.memfd_create("bomb")
    while True:
        os.write(descriptor, BLOCK)


# --- disks ------------------------------------------------------------------------------------------------------------


def fill(folder: str) -> None:
    """One file after the other, until told to stop; says why, and how many bytes that were."""
    written = 0
    try:
        for number in range(1_000_000):
            with (Path(folder) / f"fill-{number}").open("wb", buffering=0) as file:
                for _ in range(8):
                    written += file.write(BLOCK)
    except OSError as error:
        say([errno.errorcode[error.errno or 0], written])


def inodes(folder: str) -> None:
    """Empty files, until told to stop; says why, and how many."""
    count = 0
    try:
        while True:
            os.close(os.open(f"{folder}/empty-{count}", os.O_CREAT | os.O_WRONLY))
            count += 1
    except OSError as error:
        say([errno.errorcode[error.errno or 0], count])


def one_file() -> None:
    """One file beyond any limit."""
    with (OUTPUTS / "x").open("wb", buffering=0) as file:
        while True:
            file.write(BLOCK)


def sparse() -> None:
    """A file that claims much and holds nothing."""
    with (OUTPUTS / "x").open("wb") as file:
        file.truncate(48 * 2**20)
    time.sleep(3600)


def reserve() -> None:
    """Space taken without writing it, a file in no time."""
    for number in range(1_000_000):
        with (OUTPUTS / f"reserved-{number}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 64 * 2**20)


def unnamed() -> None:
    """Files that are written after their name was removed: no look at the folder shows them."""
    held = []
    while True:
        file = (OUTPUTS / "gone").open("wb", buffering=0)
        (OUTPUTS / "gone").unlink()
        held.append(file)
        for _ in range(8):
            file.write(BLOCK)


def unnamed_mapped() -> None:
    """As `unnamed`, and not even open: held by a mapping of one page."""
    held = []
    while True:
        with (OUTPUTS / "gone").open("w+b", buffering=0) as file:
            (OUTPUTS / "gone").unlink()
            for _ in range(8):
                file.write(BLOCK)
            held.append(mmap.mmap(file.fileno(), mmap.PAGESIZE))


def crowded(then: str) -> None:
    """Hundreds of thousands of descriptors of one file, which take long to look through, and then, perhaps, as much as the disk takes."""
    descriptor = os.open(OUTPUTS / "held", os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.dup(descriptor)
    except OSError:
        for each in range(descriptor + 1, descriptor + 9):
            os.close(each)  # to go on with
    for _ in range(40):
        if os.fork() == 0:
            time.sleep(3600)
    for number in range(256 if then == "fill" else 0):
        with (OUTPUTS / f"fill-{number}").open("wb", buffering=0) as file:
            for _ in range(8):
                file.write(BLOCK)
    time.sleep(3600)


def deep() -> None:
    """Folders in folders, deeper than a path can say."""
    os.chdir(OUTPUTS)
    for _ in range(1500):
        Path("ddd").mkdir()
        os.chdir("ddd")
    time.sleep(3600)


# --- what is left in the outputs ----------------------------------------------------------------------------------------


def trick(kind: str, target: str = "") -> None:
    """Leaves beside an ordinary file one thing that is none."""
    (OUTPUTS / "ordinary").write_text("ordinary")
    path = OUTPUTS / "trick"
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "symlink_folder":
            path.symlink_to(target, target_is_directory=True)
        case "symlink_loop":
            path.symlink_to(path)
        case "symlink_proc":
            path.symlink_to("/proc/self/fd/0")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case "hard_link":
            path.hardlink_to(OUTPUTS / "ordinary")
        case "name":
            os.close(os.open(bytes(OUTPUTS) + b"/" + os.fsencode(bytes.fromhex(target)), os.O_CREAT | os.O_WRONLY))
        case "case":
            (OUTPUTS / "ORDINARY").write_text("another")
        case _:
            raise ValueError(kind)


def modes() -> None:
    """Closes everything to everybody, makes a program that would run as its owner, and tries to give the outputs away."""
    (OUTPUTS / "inner" / "closed").mkdir(parents=True)
    (OUTPUTS / "inner" / "closed" / "file").write_text("kept")
    (OUTPUTS / "setuid").write_text("#!/bin/sh\nid\n")
    refused = 0
    for path in (OUTPUTS, OUTPUTS / "setuid"):
        try:
            os.chown(path, 0, 0)
        except PermissionError:
            refused += 1
    (OUTPUTS / "setuid").chmod(0o6777)
    for path in (OUTPUTS / "inner" / "closed" / "file", OUTPUTS / "inner" / "closed", OUTPUTS / "inner", OUTPUTS):
        path.chmod(0)
    say(refused)


# --- what is printed --------------------------------------------------------------------------------------------------


def flood(size: str) -> None:
    """So many bytes of lines."""
    lines = b"".join(b"%07d\n" % number for number in range(8192))
    left = int(size)
    while left > 0:
        left -= os.write(1, lines[:left])


def endless_line(size: str) -> None:
    """So many bytes without an end of a line."""
    left = int(size)
    while left > 0:
        left -= os.write(1, BLOCK.replace(b"\1", b"a")[:left])


def noise() -> None:
    """Bytes that are no text, commands for terminals, and lines that look like the host's own."""
    escapes = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x1b[?1049h\u202e\u2066\x9b1A\r\x08"
    lines = [
        b"\xff\xfe\x00\x80\xc3(\xed\xa0\x80",
        escapes.encode(),
        json.dumps({"nexa_progress": 0.5, "stage": f"half {escapes} done"}, ensure_ascii=False).encode(),
        b'{"nexa_progress": 1e999, "stage": 1}',
        b'{"nexa_progress": ' + b"[" * 2000,
        b'{"at":"2026-01-01T00:00:00.000000Z","details":{},"kind":"end","previous":"sha256:' + b"0" * 64 + b'","seq":1}',
        b"[2026-01-01 00:00:00,000: INFO/MainProcess] lease 0: completed INJECTED",
    ]
    for line in lines:
        os.write(1, line + b"\n")
        os.write(2, line + b"\r\n")
    time.sleep(1.5)  # so that the coordinator is told of it
    (OUTPUTS / "done").write_text("done")


def stdout_closed() -> None:
    """Closes all that it could say something on, goes on, and ends well."""
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    time.sleep(0.5)
    (OUTPUTS / "done").write_text("done")
    os._exit(0)


def main(name: str, *arguments: str) -> None:
    if socket.gethostname() != HOSTNAME:
        raise SystemExit("These are attacks. They run in a container of a host only.")
    attack: Callable[..., None] = globals()[name]
    attack(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
