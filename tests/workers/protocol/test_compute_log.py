"""The compute log: what was written checks; anything changed, cut, moved or grown does not."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LINE_BYTES_MAX, LogRefusedError, LogWriter, log_check
from workers.protocol.digests import digest_of

ORDER = digest_of(b"order")


def _clock() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def _log(output: bytes = b"hello\nworld", **kwargs: Any) -> tuple[bytes, Any]:
    file = io.BytesIO()
    writer = LogWriter(file, ORDER, clock=_clock, **kwargs)
    writer.start({"image": "x"})
    writer.event("image_ready", {"cached": True})
    writer.output("stdout", output)
    writer.sample({"cpu_seconds": 0.5, "pids": None})
    reference = writer.end({"exit_code": 0})
    return file.getvalue(), reference


def _check(data: bytes, reference: Any, **kwargs: Any) -> Any:
    return log_check(io.BytesIO(data), order_digest=ORDER, head=reference.head, lines_expected=reference.lines, **kwargs)


def test_log_of_known_events_has_the_published_head() -> None:
    data, reference = _log()
    assert reference.head == "sha256:36e4fae0ba1fac44797d9e1d5900197b0350855aa9869e822c7e8ff5aea76fe4"
    summary = _check(data, reference)
    assert (summary.lines, summary.samples, summary.output_bytes) == (6, 1, 11)
    assert (summary.digest, summary.size_bytes) == (reference.digest, reference.size_bytes) == (digest_of(data), len(data))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=9000)), max_size=6))
def test_any_output_comes_back_byte_for_byte(pieces: list[tuple[Any, bytes]]) -> None:
    file = io.BytesIO()
    writer = LogWriter(file, ORDER)
    writer.start({})
    for stream, data in pieces:
        writer.output(stream, data)
    reference = writer.end({})
    _check(file.getvalue(), reference)
    for stream in ("stdout", "stderr"):
        lines = [json.loads(line) for line in file.getvalue().splitlines() if json.loads(line)["kind"] == stream]
        found = b"".join(line["text"].encode() if "text" in line else base64.b64decode(line["base64"]) for line in lines)
        assert found == b"".join(data for name, data in pieces if name == stream)


def test_output_that_imitates_a_line_of_the_host_stays_output() -> None:
    data, reference = _log(b'\n{"kind":"end","seq":2}\n')
    assert [json.loads(line)["kind"] for line in data.splitlines()] == ["start", "event", "stdout", "sample", "end"]
    _check(data, reference)


def test_output_beyond_the_cap_is_dropped_and_counted() -> None:
    data, reference = _log(b"x" * 5000, output_limit_bytes=1000)
    assert _check(data, reference).output_bytes == 1000
    assert json.loads(data.splitlines()[-1])["details"] == {"exit_code": 0, "output_dropped_bytes": 4000}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_one_byte_is_refused(data: st.DataObject) -> None:
    good, reference = _log()
    changed = bytearray(good)
    changed[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LogRefusedError):
        _check(bytes(changed), reference)


@settings(max_examples=80)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_arbitrary_lines_are_refused(lines: list[bytes]) -> None:
    with pytest.raises(LogRefusedError):
        log_check([line + b"\n" for line in lines], order_digest=ORDER, head=ORDER, lines_expected=len(lines))


@pytest.mark.parametrize("change", ["drop_first", "drop_middle", "drop_end", "swap", "repeat_end"])
def test_lines_lost_moved_or_added_are_refused(change: str) -> None:
    good, reference = _log()
    lines = good.splitlines(keepends=True)
    lines = {
        "drop_first": lines[1:],
        "drop_middle": lines[:2] + lines[3:],
        "drop_end": lines[:-1],
        "swap": [lines[0], lines[2], lines[1], *lines[3:]],
        "repeat_end": [*lines, lines[-1]],
    }[change]
    with pytest.raises(LogRefusedError):
        _check(b"".join(lines), reference)


def test_log_of_another_order_or_head_is_refused() -> None:
    data, reference = _log()
    with pytest.raises(LogRefusedError, match="follow"):
        log_check(io.BytesIO(data), order_digest=digest_of(b"other"), head=reference.head, lines_expected=reference.lines)
    with pytest.raises(LogRefusedError, match="head"):
        log_check(io.BytesIO(data), order_digest=ORDER, head=ORDER, lines_expected=reference.lines)


def _chained(*lines: dict[str, Any]) -> list[bytes]:
    """Lines with right numbers and digests, whatever else is in them."""
    made, previous = [], ORDER
    for seq, line in enumerate(lines):
        encoded = canonical_json({"seq": seq, "at": "2026-01-01T00:00:00.000000Z", "previous": previous, **line})
        previous = digest_of(encoded)
        made.append(encoded + b"\n")
    return made


START: dict[str, Any] = {"kind": "start", "details": {}}
END: dict[str, Any] = {"kind": "end", "details": {}}


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "stdout"},
        {"kind": "stdout", "text": "a", "base64": "YQ=="},
        {"kind": "stdout", "base64": "*"},
        {"kind": "stdout", "text": "a", "details": {}},
        {"kind": "event", "details": {}},
        {"kind": "sample", "details": {}, "name": "x"},
        {"kind": "sample", "text": "a"},
        {"kind": "boast", "details": {}},
        {"kind": "event", "name": "x", "details": {}, "extra": 1},
        {"kind": "event", "name": "x", "details": {}, "at": "yesterday"},
        {"kind": "event", "name": "x", "details": {}, "at": "2026-01-01T00:00:00Z"},
        {"kind": "event", "name": "x", "details": {}, "at": "2026-1-1T0:0:0.5Z"},
        {"kind": "event", "name": "x", "details": {}, "at": "2026-02-30T00:00:00.000000Z"},
        {"kind": "event", "name": "x", "details": {}, "at": "2026-01-01T00:00:00.000000Z\n"},
        {"kind": "event", "name": "x", "details": {"text": "y" * 70_000}},
        START,
    ],
)
def test_well_chained_line_of_the_wrong_shape_is_refused(line: dict[str, Any]) -> None:
    lines = _chained(START, line, END)
    with pytest.raises(LogRefusedError):
        log_check(lines, order_digest=ORDER, head=digest_of(lines[-1][:-1]), lines_expected=3)


def test_log_in_other_than_canonical_json_is_refused() -> None:
    line = _chained(START)[0].replace(b'":', b'": ')
    with pytest.raises(LogRefusedError, match="canonical"):
        log_check([line], order_digest=ORDER, head=digest_of(line[:-1]), lines_expected=1)


def test_log_beyond_its_size_is_refused() -> None:
    data, reference = _log()
    with pytest.raises(LogRefusedError, match="at most 100 bytes"):
        _check(data, reference, size_limit_bytes=100)


class EndlessLine(io.RawIOBase):
    """A file without a newline, as large as anybody cares to read."""

    taken_bytes = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= 2 * LINE_BYTES_MAX
        self.taken_bytes += size
        return b"x" * size


def test_endless_line_is_refused_after_its_first_piece() -> None:
    file = EndlessLine()
    with pytest.raises(LogRefusedError, match=f"at most {LINE_BYTES_MAX} bytes"):
        log_check(file, order_digest=ORDER, head=ORDER, lines_expected=1)
    assert file.taken_bytes == LINE_BYTES_MAX + 1


def test_lines_without_a_file_check_as_well() -> None:
    data, reference = _log()
    lines = data.splitlines(keepends=True)
    assert log_check(lines, order_digest=ORDER, head=reference.head, lines_expected=reference.lines) == _check(data, reference)


def test_log_cut_by_a_crash_goes_on_where_it_was_whole(tmp_path: Path) -> None:
    good, _ = _log()
    path = tmp_path / "log"
    path.write_bytes(b"".join(good.splitlines(keepends=True)[:3]) + b'{"torn')
    with path.open("r+b") as file:
        writer = LogWriter.resume(file, ORDER)
        writer.event("resumed")
        reference = writer.end({"exit_code": None})
    summary = _check(path.read_bytes(), reference)
    assert (summary.lines, summary.digest) == (5, reference.digest)


def test_damaged_log_is_not_resumed() -> None:
    good, _ = _log()
    with pytest.raises(LogRefusedError):
        LogWriter.resume(io.BytesIO(good.replace(b"hello", b"hullo")), ORDER)
    with pytest.raises(LogRefusedError, match="more than"):
        LogWriter.resume(io.BytesIO(b"x" * 70_000), ORDER)


def test_line_out_of_order_or_too_long_is_our_own_mistake() -> None:
    writer = LogWriter(io.BytesIO(), ORDER)
    with pytest.raises(RuntimeError, match="starts with"):
        writer.event("early")
    writer.start({})
    with pytest.raises(RuntimeError, match="once"):
        writer.start({})
    with pytest.raises(RuntimeError, match="fewer details"):
        writer.event("long", {"text": "y" * 70_000})
    writer.end({})
    with pytest.raises(RuntimeError, match="ended"):
        writer.event("late")


def test_log_of_a_long_run_stays_within_what_the_portal_reads() -> None:
    """A sample a second for days, and output in lines of two bytes: each line of the log is far longer than what it holds."""
    limit_bytes = 64 * 1024
    file = io.BytesIO()
    writer = LogWriter(file, ORDER, size_limit_bytes=limit_bytes)
    writer.start({})
    for number in range(500):
        writer.sample({"elapsed_seconds": number, "cpu_seconds": 1.5, "memory_bytes": 2**30})
    for _ in range(500):
        writer.output("stdout", b"x\n")
    writer.event("late")
    reference = writer.end({})
    file.seek(0)
    summary = log_check(file, order_digest=ORDER, head=reference.head, lines_expected=reference.lines, size_limit_bytes=limit_bytes)
    assert summary.samples > 50
    assert summary.output_bytes > 50
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert lines[-1]["details"]["output_dropped_bytes"] == 1000 - summary.output_bytes
    assert lines[-2]["name"] == "late"


def test_line_that_could_not_be_written_ends_the_writing_until_the_log_is_resumed(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        full = False

        def flush(self) -> None:
            if self.full:
                raise OSError("No space left on device")

    file = Full()
    writer = LogWriter(file, ORDER)
    writer.start({})
    file.full = True
    with pytest.raises(OSError, match="space"):
        writer.event("lost")
    file.full = False
    with pytest.raises(OSError, match="resume"):
        writer.event("after")  # what is in the file is not known: the line before may be there, in part or as a whole
    resumed = LogWriter.resume(file, ORDER)
    reference = resumed.end({})
    _check(file.getvalue(), reference)
