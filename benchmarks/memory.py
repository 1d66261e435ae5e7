"""Memory of a process and all that it started, as the kernel counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Memory:
    """In bytes. `rss`: resident, what is shared counted in full for each process. `pss`: what is shared divided among its sharers."""

    rss: int
    pss: int
    processes: int


def memory_of(pid: int) -> Memory:
    """Of the process and its descendants now. Raises psutil.NoSuchProcess."""
    root = psutil.Process(pid)
    rss = pss = count = 0
    for process in (root, *root.children(recursive=True)):
        with suppress(OSError, psutil.NoSuchProcess):  # ended meanwhile
            fields = dict(_rollup(process.pid))
            rss, pss, count = rss + fields["Rss"], pss + fields["Pss"], count + 1
    return Memory(rss, pss, count)


@contextmanager
def memory_peak(pid: int) -> Iterator[list[Memory]]:
    """Within the block the process is looked at again and again; afterwards the list holds the largest finding, by rss."""
    found = [memory_of(pid)]
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            found[0] = max(found[0], memory_of(pid), key=lambda memory: memory.rss)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield found
    finally:
        done.set()
        looking.join()


def _rollup(pid: int) -> Iterator[tuple[str, int]]:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            yield name, int(value.split()[0]) * 1024
