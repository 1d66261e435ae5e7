"""Versions of software: what is one, and which comes before which."""

from __future__ import annotations

import pytest

from workers.protocol.version import SOFTWARE_VERSION, version_is_older, version_numbers


def test_ours_is_one() -> None:
    assert version_numbers(SOFTWARE_VERSION) is not None


@pytest.mark.parametrize(("text", "numbers"), [("1.2.3", (1, 2, 3)), ("0.1.0", (0, 1)), ("0", ()), ("1.0.0.4", (1, 0, 0, 4))])
def test_zeros_at_the_end_are_nothing(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "1.", ".1", "1..2", "v1", "1.2-rc1", "1.2.3.4.5", "-1", "1 ", "1\n", "\u0661", "1" * 10])
def test_anything_else_is_none(text: str) -> None:
    assert version_numbers(text) is None
    assert not version_is_older(text, "9")
    assert not version_is_older("0", text)


@pytest.mark.parametrize(
    ("found", "than", "older"), [("0.1.0", "0.2", True), ("0.9", "0.10", True), ("1.0", "1", False), ("2", "1.9.9", False)]
)
def test_numbers_are_compared_as_numbers(found: str, than: str, *, older: bool) -> None:
    assert version_is_older(found, than) is older
