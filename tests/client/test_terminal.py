"""Text from others on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.terminal import plain


@given(text=st.text(max_size=400))
def test_plain_text_is_printable_on_one_line_and_bounded(text: str) -> None:
    found = plain(text, characters_max=50)
    assert found.isprintable()
    assert len(found) <= 51
    if text.isprintable() and len(text) <= 50:
        assert found == text
