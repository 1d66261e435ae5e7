"""What a page shows of a compute log: usage over time, and its last lines. Bounded, however long the log is.

Logs are a stranger's bytes. One of a judged replica was checked, others may hold anything: what is no log line is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from workers.protocol.compute_log import LINE_BYTES_MAX, LogLine

USAGE_BYTES_MAX: Final = 16 * 2**20
"""So much of a log is looked through for samples."""
POINTS_MAX: Final = 240
TAIL_BYTES: Final = 64 * 1024
TAIL_LINES: Final = 200
GPUS_MAX: Final = 8
_SAMPLE: Final = b'"kind":"sample"'
"""In canonical JSON these bytes stand in sample lines only: quotes within a text have a backslash before them."""

Point = tuple[datetime, float | None]


@dataclass
class Series:
    """What one run used, over its time. Processor in cores, memory in GB, GPUs in per cent: utilisation by GPU, in their order."""

    cores: list[Point] = field(default_factory=list)
    memory_gb: list[Point] = field(default_factory=list)
    gpu_percent: list[list[Point]] = field(default_factory=list)

    def add(self, at: datetime, details: Mapping[str, Any]) -> None:
        """Takes in a sample; what is missing, or no number, is a gap."""
        self.cores.append((at, _scaled(details.get("cpu_percent"), 0.01)))
        self.memory_gb.append((at, _scaled(details.get("memory_bytes"), 1e-9)))
        gpus = details.get("gpus")
        for number, gpu in enumerate(gpus[:GPUS_MAX] if isinstance(gpus, list) else ()):
            if number == len(self.gpu_percent):
                self.gpu_percent.append([])
            self.gpu_percent[number].append((at, _scaled(gpu.get("utilisation") if isinstance(gpu, dict) else None, 100)))


@dataclass(frozen=True)
class TailLine:
    """A piece of what a container wrote, or (`stream` is `host`) what the host noted. `text` is printable but for line ends and tabs."""

    at: datetime
    stream: str
    text: str


@dataclass(frozen=True)
class Tail:
    """The last lines; `is_cut`: there are earlier ones."""

    lines: list[TailLine]
    is_cut: bool


def usage_read(log: BinaryIO) -> Series:
    """The usage of a run, thinned evenly to POINTS_MAX points or somewhat fewer."""
    kept: list[LogLine] = []
    every, seen, left = 1, 0, USAGE_BYTES_MAX
    while left > 0 and (line := log.readline(LINE_BYTES_MAX + 1)):
        left -= len(line)
        if _SAMPLE not in line:
            continue
        seen += 1
        if (seen - 1) % every or (read := _line_of(line)) is None:
            continue
        kept.append(read)
        if len(kept) > POINTS_MAX:
            kept, every = kept[::2], 2 * every
    series = Series()
    for read in kept:
        if read.details is not None and (not series.cores or _at(read) > series.cores[-1][0]):
            series.add(_at(read), read.details)
    return series


def tail_read(log: BinaryIO) -> Tail:
    """The last TAIL_LINES lines of output and host's events that stand in the last TAIL_BYTES of a log."""
    end = log.seek(0, os.SEEK_END)
    begin = max(0, end - TAIL_BYTES)
    log.seek(begin)
    if begin:
        log.readline(LINE_BYTES_MAX + 1)  # the rest of a line that begins before
    found = [line for line in _lines_of(log) if line]
    return Tail(found[-TAIL_LINES:], is_cut=bool(begin) or len(found) > TAIL_LINES)


def _lines_of(log: BinaryIO) -> Iterator[TailLine | None]:
    while line := log.readline(LINE_BYTES_MAX + 1):
        read = _line_of(line)
        if read is None or read.kind == "sample":
            continue
        if read.kind in ("stdout", "stderr"):
            yield TailLine(_at(read), read.kind, _printable(read.output().decode("utf-8", "replace")))
        else:
            yield TailLine(_at(read), "host", _printable((read.name or read.kind).replace("_", " ")))


def _line_of(line: bytes) -> LogLine | None:
    try:
        read = LogLine.model_validate_json(line)
        read.output()
    except (ValidationError, ValueError):
        return None
    return read


def _at(line: LogLine) -> datetime:
    return datetime.fromisoformat(line.at)


def _scaled(value: object, factor: float) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) * factor if is_number and 0 <= value < 1e18 else None  # type: ignore[arg-type, operator]  # a number, as said


def _printable(text: str) -> str:
    """Without controls, directions and such, which could make a terminal's, or a reader's, text look like something else."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text.rstrip("\n"))
