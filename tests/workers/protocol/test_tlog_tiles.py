"""Addresses of tiles, against the examples of C2SP tlog-tiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.tlog_tiles import place_parse, place_text


@pytest.mark.parametrize(
    ("index", "text"), [(0, "000"), (67, "067"), (999, "999"), (1000, "x001/000"), (1_234_067, "x001/x234/067"), (10**6, "x001/x000/000")]
)
def test_place_is_written_as_tlog_tiles_says(index: int, text: str) -> None:
    assert place_text(index) == text
    assert place_parse(text) == (index, 256)
    assert place_parse(f"{text}.p/255") == (index, 255)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00",
        "0000",
        "x000/067",
        "x001",
        "001/234",
        "x1/234",
        "000.p/0",
        "000.p/256",
        "000.p/01",
        "000.p",
        "000/",
        "\u0660\u0660\u0660",
        "000\n",
    ],
)
def test_place_written_otherwise_is_none(text: str) -> None:
    assert place_parse(text) is None


@given(index=st.integers(0, 10**18 - 1), width=st.integers(1, 256))
def test_place_survives_a_round_trip(index: int, width: int) -> None:
    text = place_text(index) + (f".p/{width}" if width < 256 else "")
    assert place_parse(text) == (index, width)


@given(text=st.text(alphabet="x0123456789/.p", max_size=30))
def test_place_of_any_text_is_none_or_its_only_spelling(text: str) -> None:
    found = place_parse(text)
    if found is not None:
        index, width = found
        assert text == place_text(index) + (f".p/{width}" if width < 256 else "")
