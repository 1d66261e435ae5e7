"""Base64 has one spelling for each value."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.strict_base64 import base64_decode, base64_encode


@given(st.binary(max_size=100))
def test_decode_returns_what_encode_was_given(data: bytes) -> None:
    assert base64_decode(base64_encode(data)) == data
    assert base64_encode(data) == base64.b64encode(data).decode()


@pytest.mark.parametrize("text", ["=", "A", "AA", "AAA", "AA==\n", " AA==", "AB==", "A-_=", "AA==AA==", "AAA=A", "ä"])
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        base64_decode(text)


@given(st.text(max_size=12))
def test_any_text_either_round_trips_or_is_refused_with_a_value_error(text: str) -> None:
    try:
        data = base64_decode(text)
    except ValueError:
        return
    assert base64_encode(data) == text
