"""Charts show what was measured, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from nexaportal.charts import Point, line_chart_svg, number_short, scale_top

START = datetime(2026, 1, 1, tzinfo=UTC)


def _points(*values: float | None) -> list[Point]:
    return [(START + timedelta(minutes=place), value) for place, value in enumerate(values)]


@pytest.mark.parametrize(
    ("largest", "top"), [(0, 1), (-3, 1), (float("nan"), 1), (0.7, 1), (1, 1), (1.1, 2), (23, 25), (26, 50), (99, 100)]
)
def test_an_axis_ends_at_a_round_number(largest: float, top: float) -> None:
    assert scale_top(largest) == pytest.approx(top)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.25, "0.25"), (12.54, "12.5"), (1250, "1.25k"), (3e6, "3M"), (2.5e12, "2.5T")])
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert number_short(value) == text


def test_a_gap_stays_a_gap() -> None:
    drawn = line_chart_svg(_points(1, 2, None, 2, 1), name="load", unit="%")
    assert len(re.findall(r'class="line"', drawn)) == 2
    assert "nan" not in drawn.lower()


def test_too_little_is_not_drawn() -> None:
    assert line_chart_svg(_points(1), name="load", unit="%") == ""
    assert line_chart_svg(_points(None, 2, float("inf")), name="load", unit="%") == ""
    assert line_chart_svg([], name="load", unit="%") == ""


def test_it_says_in_words_what_it_draws() -> None:
    drawn = line_chart_svg(_points(10, 80, 40), name="cpu", unit="%", top=100)
    assert 'aria-label="cpu: 40 % at the end, at most 80 %"' in drawn
    ends = [float(found) for found in re.findall(r'class="line" d="M[\d.]+ ([\d.]+)', drawn)]
    assert ends == [pytest.approx(98 - 0.1 * 82, abs=0.1)]
