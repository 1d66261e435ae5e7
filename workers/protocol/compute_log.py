"""The compute log: what happened during one run, a canonical JSON object a line, each line holding the digest of the one before.

    {"at":"2026-01-01T00:00:00.000000Z","kind":"start","details":{…},"previous":"sha256:<order digest>","seq":0}
    {"at":…,"kind":"event","details":{…},"name":"image_ready","previous":…,"seq":1}
    {"at":…,"kind":"stdout","text":"step 1\\n","previous":…,"seq":2}          base64 instead of text where the bytes are no plain UTF-8
    {"at":…,"kind":"sample","details":{…},"previous":…,"seq":3}
    {"at":…,"kind":"end","details":{…},"previous":…,"seq":4}

`start`, `event`, `sample` and `end` are the host's words; `stdout` and `stderr` hold the container's, as data in one field, so a
container cannot write a line of the host's. `previous` of the first line is the digest of the order's payload, so a log belongs to one
order; the digest of the last line, without its newline, is the head, which the receipt signs. A chain proves that nothing was
changed after signing, not that the host told the truth.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, BinaryIO, Final, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import DIGEST_PREFIX, Digest, digest_of
from workers.protocol.errors import LogRefusedError, VerificationError
from workers.protocol.messages.receipt import LogReference
from workers.protocol.strict_base64 import base64_decode, base64_encode

LINE_BYTES_MAX: Final = 64 * 1024
LOG_BYTES_MAX: Final = 64 * 2**20
OUTPUT_BYTES_DEFAULT: Final = 2**20
_PIECE_BYTES: Final = 8 * 1024
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"

OutputStream = Literal["stdout", "stderr"]


__all__ = ["LINE_BYTES_MAX", "LOG_BYTES_MAX", "OUTPUT_BYTES_DEFAULT", "LogLine", "LogRefusedError", "LogSummary", "LogWriter", "log_check"]


class LineSource(Protocol):
    """A binary file, as far as reading its lines goes."""

    def readline(self, limit: int, /) -> bytes: ...


def _time_check(text: str) -> str:
    datetime.fromisoformat(text)  # the pattern leaves it only the ranges to check, and is all that it may accept
    return text


class LogLine(BaseModel):
    """One line. `details` for the host's own kinds, `name` for events, one of `text` and `base64` for output."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    seq: int = Field(ge=0)
    at: Annotated[str, StringConstraints(pattern=_TIME_PATTERN), AfterValidator(_time_check)]
    kind: Literal["start", "event", "stdout", "stderr", "sample", "end"]
    previous: Digest
    name: str | None = Field(default=None, min_length=1, max_length=100)
    details: dict[str, Any] | None = None
    text: str | None = None
    base64: str | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        is_output = self.kind in {"stdout", "stderr"}
        if is_output is (self.details is not None) or is_output is ((self.text is None) == (self.base64 is None)):
            raise ValueError("output lines carry text or base64, all others details")
        if (self.kind == "event") is (self.name is None):
            raise ValueError("events, and only they, carry a name")
        return self

    def output(self) -> bytes:
        """The container's bytes; empty for the host's own lines. Raises ValueError for base64 that is none."""
        return base64_decode(self.base64) if self.base64 is not None else (self.text or "").encode("utf-8")


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a checked log amounts to. `output_bytes` counts the container's own bytes."""

    lines: int
    size_bytes: int
    digest: str
    head: str
    output_bytes: int
    samples: int


class LogWriter:
    """Writes a log to a binary `file`, flushing each line. Thread-safe.

    The container's output is kept whole lines at a time, up to `output_limit_bytes`; the rest is counted and named in the `end` line.
    Whoever reads a log refuses one beyond `size_limit_bytes`, and a run may last for weeks: samples stop at half of it, output at three
    quarters, and the rest is for events and the end.
    Nothing may be written after `end` (RuntimeError). Does not sync to disk, and does not close the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        order_digest: str,
        *,
        output_limit_bytes: int = OUTPUT_BYTES_DEFAULT,
        size_limit_bytes: int = LOG_BYTES_MAX,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._seq = 0
        self._head = order_digest
        self._ended = False
        self._torn = False
        self._output_left = output_limit_bytes
        self._size_limit_bytes = size_limit_bytes
        self._dropped_bytes = 0
        self._partial: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}
        self.last_sample: Mapping[str, Any] | None = None
        """The details of the newest sample that was written, also before a `resume`."""

    @classmethod
    def resume(
        cls,
        file: BinaryIO,
        order_digest: str,
        *,
        output_limit_bytes: int = OUTPUT_BYTES_DEFAULT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> LogWriter:
        """Go on with a log after a crash: `file` is opened "r+b". Raises LogRefusedError for damage.

        A torn last line is cut off, and so is an end line: a log is resumed only where no receipt has signed its head.
        """
        writer = cls(file, order_digest, output_limit_bytes=output_limit_bytes, clock=clock)
        file.seek(0)
        while (line := file.readline(LINE_BYTES_MAX + 1)).endswith(b"\n"):
            read = _line_check(line, seq=writer._seq, previous=writer._head)
            if read.kind == "end":
                break
            writer._output_left = max(0, writer._output_left - len(read.output()))
            if read.kind == "sample":
                writer.last_sample = read.details
            writer._advance(line)
        if len(line) > LINE_BYTES_MAX:
            raise LogRefusedError(f"Line {writer._seq} of the log has more than {LINE_BYTES_MAX} bytes.")
        file.seek(writer._size_bytes)
        file.truncate()
        return writer

    def start(self, details: Mapping[str, Any]) -> None:
        """The first line: what is about to run. RuntimeError when it is not the first."""
        if self._seq:
            raise RuntimeError("A log starts once.")
        self._write("start", details=dict(details))

    def event(self, name: str, details: Mapping[str, Any] | None = None) -> None:
        """Something that the host did or saw."""
        self._write("event", name=name, details=dict(details or {}))

    def sample(self, values: Mapping[str, Any]) -> None:
        """What the container used by now; absent values are left out, and samples of a log that is half full."""
        with self._lock:
            if self._size_bytes < self._size_limit_bytes // 2:
                self.last_sample = {name: value for name, value in values.items() if value is not None}
                self._line("sample", details=self.last_sample)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Bytes of the container, split anywhere; kept as whole lines where they are shorter than 8 KiB."""
        with self._lock:
            is_full = self._size_bytes >= self._size_limit_bytes // 4 * 3
            kept = b"" if is_full else data[: self._output_left]
            self._output_left -= len(kept)
            self._dropped_bytes += len(data) - len(kept)
            pending = self._partial[stream] + kept
            while len(pending) >= _PIECE_BYTES:
                cut = pending.rfind(b"\n", 0, _PIECE_BYTES) + 1 or _PIECE_BYTES
                self._output_line(stream, pending[:cut])
                pending = pending[cut:]
            cut = pending.rfind(b"\n") + 1
            if cut:
                self._output_line(stream, pending[:cut])
            self._partial[stream] = pending[cut:]

    def output_end(self) -> None:
        """No more output comes: write what is left of lines without an end."""
        with self._lock:
            self._partial_write()

    def end(self, details: Mapping[str, Any]) -> LogReference:
        """The last line: how it ended, with `output_dropped_bytes` added. Returns what the receipt says of this log."""
        with self._lock:
            if self._ended:
                return self._reference()
            self._partial_write()
            self._line("end", details={**details, "output_dropped_bytes": self._dropped_bytes})
            self._ended = True
            return self._reference()

    def _reference(self) -> LogReference:
        return LogReference(digest=DIGEST_PREFIX + self._sha256.hexdigest(), size_bytes=self._size_bytes, head=self._head, lines=self._seq)

    def _partial_write(self) -> None:
        for stream, rest in self._partial.items():
            if rest:
                self._output_line(stream, rest)
                self._partial[stream] = b""

    def _write(self, kind: str, **fields: Any) -> None:
        with self._lock:
            self._line(kind, **fields)

    def _output_line(self, stream: OutputStream, data: bytes) -> None:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        self._line(stream, **({"base64": base64_encode(data)} if "\0" in text else {"text": text}))

    def _line(self, kind: str, **fields: Any) -> None:
        if self._ended:
            raise RuntimeError("This log has ended; its head may be signed already.")
        if not self._seq and kind != "start":
            raise RuntimeError("A log starts with its start line.")
        at = self._clock().astimezone(UTC).strftime(_TIME_FORMAT)
        line = canonical_json({"seq": self._seq, "at": at, "kind": kind, "previous": self._head, **fields}) + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise RuntimeError(f"A line of the log may have {LINE_BYTES_MAX} bytes; this {kind!r} has {len(line)}: give fewer details.")
        if self._torn:
            raise OSError(errno.EIO, "a line of the log could not be written before; resume it")
        self._torn = True  # until the line is out: a part of it may be in the file, or come later from a buffer
        self._file.write(line)
        self._file.flush()
        self._torn = False
        self._advance(line)

    def _advance(self, line: bytes) -> None:
        self._sha256.update(line)
        self._size_bytes += len(line)
        self._head = digest_of(line[:-1])
        self._seq += 1


def log_check(
    lines: LineSource | Iterable[bytes], *, order_digest: str, head: str, lines_expected: int, size_limit_bytes: int = LOG_BYTES_MAX
) -> LogSummary:
    """Check a whole log: a binary file, or lines with their newlines. Holds one line at a time.

    Of a file no line is read further than a line may go. Raises LogRefusedError; OSError of the file passes through.
    """
    sha256 = hashlib.sha256()
    size_bytes = output_bytes = samples = count = 0
    previous, kind = order_digest, ""
    for line in _bounded(lines):
        size_bytes += len(line)
        if size_bytes > size_limit_bytes:
            raise LogRefusedError(f"Expected a log of at most {size_limit_bytes} bytes; found more.")
        if kind == "end":
            raise LogRefusedError(f"Expected nothing after the end line; found line {count}.")
        read = _line_check(line, seq=count, previous=previous)
        kind = read.kind
        output_bytes += len(read.output())
        samples += kind == "sample"
        sha256.update(line)
        previous = digest_of(line[:-1])
        count += 1
    if kind != "end":
        raise LogRefusedError(f"Expected an end line; the log of {count} lines stops before one.")
    if count != lines_expected or previous != head:
        raise LogRefusedError(f"Expected {lines_expected} lines with the head {head[:71]}; found {count} with {previous}.")
    return LogSummary(count, size_bytes, DIGEST_PREFIX + sha256.hexdigest(), previous, output_bytes, samples)


def _bounded(lines: LineSource | Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file, one that is too long in pieces, of which the first is refused already."""
    if isinstance(lines, Iterable) and not hasattr(lines, "readline"):
        return iter(lines)
    return iter(partial(lines.readline, LINE_BYTES_MAX + 1), b"")


def _line_check(line: bytes, *, seq: int, previous: str) -> LogLine:
    """One line, by itself and as the successor of the one before. Raises LogRefusedError."""
    if not line.endswith(b"\n") or len(line) > LINE_BYTES_MAX:
        raise LogRefusedError(f"Line {seq} of the log must end in a newline and have at most {LINE_BYTES_MAX} bytes; it has {len(line)}.")
    try:
        value = json_parse(line[:-1], limit_bytes=LINE_BYTES_MAX)
        read = LogLine.model_validate(value)
        read.output()
        canonical = canonical_json(value)
    except (VerificationError, ValueError) as error:
        kind = type(error).__name__ if isinstance(error, ValidationError) else str(error)
        raise LogRefusedError(f"Line {seq} of the log is not a log line: {kind}") from error
    if canonical != line[:-1]:
        raise LogRefusedError(f"Line {seq} of the log is not in canonical JSON.")
    if read.seq != seq or read.previous != previous:
        raise LogRefusedError(
            f"Line {seq} of the log must have that number and follow {previous}; it has {read.seq} and follows {read.previous}."
        )
    if (seq == 0) is not (read.kind == "start"):
        raise LogRefusedError(f"A log has one start line, the first; line {seq} is {read.kind!r}.")
    return read
