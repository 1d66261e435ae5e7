"""Figures: what a benchmark found, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One value. `limit`: what it may be at most, `at_least` the other way; None where nothing was promised."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the value is within its limits."""
        return (self.limit is None or self.value <= self.limit) and (self.at_least is None or self.value >= self.at_least)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them don't exceed (nearest rank). Raises ValueError for no values."""
    if not values:
        raise ValueError("expected at least one value")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    """The 50th percentile."""
    return percentile(values, 0.5)


def figures_print(title: str, figures: Sequence[Figure], *, console: Console) -> None:
    """One table: name, value, limit, note."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("asked", justify="right")
    table.add_column("")
    for figure in figures:
        bounds = (("at most", figure.limit), ("at least", figure.at_least))
        limit = ", ".join(f"{words} {_number(bound)} {figure.unit}".rstrip() for words, bound in bounds if bound is not None)
        value = f"{_number(figure.value)} {figure.unit}".rstrip()
        table.add_row(figure.name, value if figure.holds else f"[red]{value}[/red]", limit, figure.note)
    console.print(table)
    console.print()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
