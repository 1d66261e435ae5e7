"""What a page takes from a compute log: bounded, and nothing from what is no log line."""

from __future__ import annotations

import io
import itertools
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evidence import log_reading
from jobs.evidence.log_reading import POINTS_MAX, TAIL_LINES, tail_read, usage_read
from tests.factories.receipts import log_make
from workers.protocol.compute_log import LogWriter

ORDER = "sha256:" + "ab" * 32
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def log_of(samples: int, output: bytes = b"") -> io.BytesIO:
    seconds = count()

    def writes(writer: LogWriter) -> None:
        for step in range(samples):
            writer.sample({"cpu_percent": float(step), "memory_bytes": step * 10**9})
        writer.output("stdout", output)

    return io.BytesIO(log_make(ORDER, writes, lambda: BEGIN + timedelta(seconds=next(seconds)))[0])


@pytest.mark.parametrize("samples", [0, 1, 2, POINTS_MAX, POINTS_MAX + 1, 5 * POINTS_MAX + 3])
def test_a_series_has_a_bounded_number_of_points_evenly_over_the_run(samples: int) -> None:
    series = usage_read(log_of(samples))
    assert min(samples, POINTS_MAX // 2) <= len(series.cores) <= POINTS_MAX
    times = [at for at, _ in series.cores]
    gaps = {(after - before).total_seconds() for before, after in pairwise(times)}
    assert len(gaps) <= 1
    assert all(cores == pytest.approx(0.01 * (memory or 0)) for (_, cores), (_, memory) in zip(series.cores, series.memory_gb, strict=True))


def test_output_that_looks_like_a_sample_is_none() -> None:
    forged = b'{"at":"2026-01-01T00:00:00.000000Z","details":{"cpu_percent":9e9},"kind":"sample","previous":"x","seq":1}\n'
    assert len(usage_read(log_of(2, forged)).cores) == 2


@pytest.mark.parametrize("value", ["9", None, True, -1, [1], {"a": 1}, 1e19])
def test_a_value_that_is_no_quantity_is_a_gap(value: object) -> None:
    series = log_reading.Series()
    series.add(BEGIN, {"cpu_percent": value, "memory_bytes": value, "gpus": [{"utilisation": value}, value]})
    series.add(BEGIN, {"gpus": value})
    points = [point for _, point in itertools.chain(series.cores, series.memory_gb, *series.gpu_percent)]
    assert len(points) >= 6
    assert not any(points)


def test_a_log_is_not_read_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reading, "USAGE_BYTES_MAX", 2000)
    assert 0 < len(usage_read(log_of(100)).cores) < 20


def test_the_tail_is_the_last_lines_and_says_that_it_is_cut() -> None:
    lines = b"".join(b"line %d %s\n" % (number, b"x" * 8000) for number in range(40))
    tail = tail_read(log_of(0, lines))
    assert tail.is_cut
    assert tail.lines[-1].stream == "host"
    assert tail.lines[-2].text.startswith("line 39 ")
    short = tail_read(log_of(0, b"one\n"))
    assert ([line.text for line in short.lines], short.is_cut) == (["start", "one", "end"], False)
    many = tail_read(log_of(0, b"".join(b"%d%s\n" % (number, b"y" * 8100) for number in range(3))))
    assert len(many.lines) <= TAIL_LINES


def test_controls_and_directions_are_replaced() -> None:
    [line] = [one for one in tail_read(log_of(0, "a\x1b[31mred\u202eevil\ttab\n".encode())).lines if one.stream == "stdout"]
    assert line.text == "a\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}evil\ttab"


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_a_word(data: bytes) -> None:
    assert usage_read(io.BytesIO(data)).cores == []
    assert tail_read(io.BytesIO(data)).lines == []
