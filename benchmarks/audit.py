"""`nexa audit` of a large log, against the raw rate of Ed25519 verification on the same core at the same time, and its memory.

The log is a realistic one: each job is a reservation, a host's signed receipt, a payment and a refund. It is made as static files.

    python -m benchmarks.audit --leaves 1000000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from benchmarks.figures import Figure, figures_print
from client.audit.auditing import log_audit
from client.audit.folder_source import FolderSource
from client.audit.last_run import Memory
from tests.factories.logs import COORDINATOR, LogFolder, LogMaker, leaf_encode

LEAVES_SMALL: Final = 100_000
RATE_LIMIT: Final = 1 / 0.7
"""Raw verifications a second over leaves a second, at most."""
GROWTH_LIMIT: Final = 1.25
"""Peak memory at the whole log over that at a tenth of it, at most."""
_HOSTS: Final = 50
_LEAVES_A_JOB: Final = 4
_RAW_SLICE_SECONDS: Final = 0.1
_RAW_EVERY_SECONDS: Final = 1.0
_MESSAGE_BYTES: Final = 1400
"""About what a host signs."""


@dataclass(frozen=True)
class Measured:
    """One audit in a process of its own, and raw verifications a second (and a second of processor time) in between."""

    leaves: int
    entries: int
    seconds: float
    cpu_seconds: float
    raw_rate: float
    raw_cpu_rate: float
    peak_bytes: int
    disk_bytes: int
    findings: int


def audit_figures(folder: Path, leaves: int = LEAVES_SMALL) -> list[Figure]:
    """Makes a log of about `leaves` leaves in `folder`, and one of a tenth, and audits both."""
    small = _measured(folder / "tenth", leaves // 10)
    whole = _measured(folder / "whole", leaves)
    if small.findings or whole.findings:
        raise AssertionError(f"expected a clean log; found {small.findings} and {whole.findings} findings")
    rate = whole.leaves / whole.seconds
    of_cpu = whole.raw_cpu_rate / (whole.leaves / whole.cpu_seconds)
    return [
        Figure(
            f"audit of {whole.leaves:,} leaves",
            whole.seconds,
            "s",
            note=f"{rate:,.0f} leaves/s, of which {whole.entries / whole.seconds:,.0f} entries/s",
        ),
        Figure(
            "raw Ed25519 over audited leaves",
            whole.raw_rate / rate,
            "x",
            RATE_LIMIT,
            note=f"{whole.raw_rate:,.0f} raw verifications/s of one core in the same minutes; {of_cpu:.2f} x by processor time",
        ),
        Figure("peak memory", whole.peak_bytes / 1e6, "MB"),
        Figure(
            "peak memory over that at a tenth",
            whole.peak_bytes / small.peak_bytes,
            "x",
            GROWTH_LIMIT,
            note=f"{small.peak_bytes / 1e6:.0f} MB at {small.leaves:,}",
        ),
        Figure("temporary disk", whole.disk_bytes / whole.leaves, "bytes/leaf"),
    ]


def log_build(folder: Path, leaves: int) -> None:
    """A clean log of about so many leaves."""
    log = LogMaker()
    written = LogFolder(folder)
    person = log.uuid()
    log.grant(person, 10**17)
    hosts = [log.host() for _ in range(_HOSTS)]
    for number in range(max(1, (leaves - len(log.leaves)) // _LEAVES_A_JOB)):
        log.job(person, hosts[number % _HOSTS :][:1])
        if len(log.leaves) >= 4096:
            written.append(_lines(log))
    written.append(_lines(log))
    written.sign()


def _lines(log: LogMaker) -> Iterator[bytes]:
    for leaf in log.leaves:
        yield leaf_encode(leaf)
    log.leaves.clear()


def _measured(folder: Path, leaves: int) -> Measured:
    """Builds and audits, each in a process of its own, so that the one's memory is not the other's."""
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        pool.apply(log_build, (folder / "log", leaves))
        return pool.apply(_audited, (folder,))


def _audited(folder: Path) -> Measured:
    (folder / "work").mkdir()
    raw = [_raw_rate()]
    last = time.monotonic()
    spent_seconds = spent_cpu_seconds = 0.0

    def progress(done: int, total: int) -> None:
        # The raw rate is measured throughout: a shared machine is now fast, now slow.
        nonlocal last, spent_seconds, spent_cpu_seconds
        if time.monotonic() - last > _RAW_EVERY_SECONDS:
            began, began_cpu = time.monotonic(), time.process_time()
            raw.append(_raw_rate())
            last = time.monotonic()
            spent_seconds += last - began
            spent_cpu_seconds += time.process_time() - began_cpu

    cpu = time.process_time()

    report = log_audit(
        FolderSource(folder / "log"),
        pinned=COORDINATOR.public.key_id,
        memory=Memory(folder / "state"),
        folder=folder / "work",
        progress=progress,
    )
    return Measured(
        leaves=report.size,
        entries=report.counts.entries,
        seconds=report.seconds - spent_seconds,
        cpu_seconds=time.process_time() - cpu - spent_cpu_seconds,
        raw_rate=statistics.fmean(rate for rate, _ in raw),
        raw_cpu_rate=statistics.fmean(rate for _, rate in raw),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        disk_bytes=sum(file.stat().st_size for file in (folder / "work").iterdir()),
        findings=report.findings.counts.total(),
    )


def _raw_rate() -> tuple[float, float]:
    """Verifications of one signature a second, and a second of processor time: the library's own call and nothing around it."""
    key = Ed25519PrivateKey.generate()
    message = b"m" * _MESSAGE_BYTES
    signature, public = key.sign(message), key.public_key()
    done, began, began_cpu = 0, time.monotonic(), time.thread_time()
    while (elapsed := time.monotonic() - began) < _RAW_SLICE_SECONDS:
        for _ in range(50):
            public.verify(signature, message)
        done += 50
    return done / elapsed, done / (time.thread_time() - began_cpu)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a figure is above what it may be at most."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--leaves", type=int, default=LEAVES_SMALL)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="nexapod-audit-") as folder:
        figures = audit_figures(Path(folder), options.leaves)
    figures_print("Audit", figures, console=Console(width=None if sys.stdout.isatty() else 140))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
