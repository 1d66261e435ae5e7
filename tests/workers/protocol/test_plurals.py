"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from workers.protocol.plurals import counted


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 cores"), (1, "1 core"), (1.0, "1 core"), (0.5, "0.5 cores"), (2, "2 cores"), (10_000_000, "10000000 cores")],
)
def test_only_one_is_one(number: float, expected: str) -> None:
    assert counted(number, "core") == expected


def test_plural_without_an_s_of_its_own_is_given() -> None:
    assert [counted(number, "leaf", "leaves") for number in (1, 2)] == ["1 leaf", "2 leaves"]
