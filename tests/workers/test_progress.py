"""Progress lines in a container's output: read wherever the stream is cut, never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.progress import LINE_BYTES_MAX, Progress, ProgressReader, progress_parse

LINE = b'{"nexa_progress": 0.4, "stage": "annealing"}\n'


@given(st.integers(0, len(LINE)), st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"") + b"\n"))
def test_line_cut_anywhere_is_read(cut: int, before: bytes) -> None:
    reader = ProgressReader()
    reader.feed(before)
    found = [reader.feed(part) for part in (LINE[:cut], LINE[cut:])]
    assert Progress(0.4, "annealing") in found


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_raise(parts: list[bytes]) -> None:
    reader = ProgressReader()
    for part in parts:
        reader.feed(b'{"nexa_progress"' + part)


@pytest.mark.parametrize(
    "line",
    [
        b'{"nexa_progress": 1.5}',
        b'{"nexa_progress": -1}',
        b'{"nexa_progress": true}',
        b'{"nexa_progress": "0.4"}',
        b'{"nexa_progress": NaN}',
        b'["nexa_progress"]',
        b'{"nexa_progress": 0.4',
        b"\xff nexa_progress",
        b'{"nexa_progress": 0.1, "stage": "' + b"x" * LINE_BYTES_MAX + b'"}',
        b"[" * 4000 + b"nexa_progress",
    ],
)
def test_what_is_no_progress(line: bytes) -> None:
    assert progress_parse(line) is None


def test_stage_cannot_steer_a_terminal() -> None:
    assert progress_parse(b'{"nexa_progress": 1, "stage": "\\u001b[2Jdone"}') == Progress(1.0, "[2Jdone")
    assert progress_parse(b'{"nexa_progress": 1, "stage": 7}') == Progress(1.0, "")


def test_endless_line_costs_no_memory_and_its_end_is_no_line() -> None:
    reader = ProgressReader()
    for _ in range(100):
        reader.feed(b"x" * LINE_BYTES_MAX)
    assert len(reader._rest) <= LINE_BYTES_MAX
    assert reader.feed(b"\n" + LINE) == Progress(0.4, "annealing")
