"""Figures: percentiles, limits, and how they are shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.figures import Figure, figures_print, median, percentile


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 5), (0.51, 6), (0.95, 10), (1, 10)])
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == expected


def test_one_value_is_every_percentile_and_none_is_refused() -> None:
    assert (median([3.0]), percentile([3.0], 0.95)) == (3.0, 3.0)
    with pytest.raises(ValueError, match="at least one value"):
        median([])


def test_a_figure_holds_up_to_its_limit() -> None:
    assert Figure("added", 0.5, "s", limit=0.5).holds
    assert not Figure("added", 0.51, "s", limit=0.5).holds
    assert Figure("added", 1e9, "s").holds


def test_a_table_shows_value_limit_and_note() -> None:
    console = Console(file=io.StringIO(), width=120)
    figures_print("Overhead", [Figure("added, p50", 0.1234, "s", limit=0.5, note="of ten")], console=console)
    assert isinstance(console.file, io.StringIO)
    [line] = [line for line in console.file.getvalue().splitlines() if line.startswith("added")]
    assert line.split() == ["added,", "p50", "0.123", "s", "at", "most", "0.5", "s", "of", "ten"]
