"""The compute log: what happened during one run, a canonical JSON object a line, each line holding the digest of the one before.

SIGNATURES FIRST; the body follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal

from workers.protocol.errors import VerificationError
from workers.protocol.messages import LogReference


class LogRefusedError(VerificationError):
    code = "log_refused"


@dataclass(frozen=True, slots=True)
class LogSummary:
    lines: int
    size_bytes: int
    digest: str
    head: str
    output_bytes: int
    samples: int


class LogWriter:
    """Thread-safe. `file` is opened for appending in binary mode, unbuffered or buffered; each line is flushed."""

    def __init__(self, file: BinaryIO, order_digest: str, *, output_limit_bytes: int = 1 << 20, clock: Callable[[], datetime] = ...) -> None: ...

    @classmethod
    def resume(cls, file: BinaryIO, order_digest: str, **kwargs: Any) -> LogWriter:
        """`file` opened "r+b": checks what is there, cuts off a torn last line, goes on. Raises LogRefusedError."""

    def start(self, details: Mapping[str, Any]) -> None: ...
    def event(self, name: str, details: Mapping[str, Any] | None = None) -> None: ...
    def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None: ...
    def sample(self, values: Mapping[str, float | int | None]) -> None: ...
    def end(self, details: Mapping[str, Any]) -> LogReference: ...


def log_check(
    lines: Iterable[bytes], *, order_digest: str, head: str, lines_expected: int, size_limit_bytes: int = 64 * 2**20
) -> LogSummary:
    """`lines` each with their newline (a binary file does). Raises LogRefusedError."""
