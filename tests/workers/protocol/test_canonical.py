"""Canonical JSON out, careful JSON in."""

import contextlib
import json
import time
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.canonical import DEPTH_LIMIT, canonical_json, json_parse
from workers.protocol.errors import JsonMalformedError, JsonTooLargeError, NotCanonicalError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def parse(data: bytes) -> Any:
    return json_parse(data, limit_bytes=100_000)


@given(VALUES | st.floats() | st.integers() | st.tuples(VALUES, VALUES) | st.text())
def test_the_form_is_that_of_the_library_also_where_it_is_not_asked(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):
        with pytest.raises(NotCanonicalError):
            canonical_json(value)
    else:
        assert canonical_json(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(1.0, -0.0, 0.1, 1e-5, 1e-6, 1e-7, 1e16, 1e20, 1e21, 1.5e300, 2.0**53 - 1, 2.0**53, -(2.0**53), 123456789.125, 5e-324),
        *("\x7f\u2028\b\f\x1f/\\", {"\ue000": 1, "\U00010000": 2}, {"b": [1, (2.0, None)], "a": {"é": True}}),
    ],
    ids=repr,
)
def test_numbers_names_and_escapes_at_the_edges_are_those_of_the_library(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(VALUES)
def test_parse_returns_a_value_with_the_same_canonical_form(value: Any) -> None:
    data = canonical_json(value)
    assert canonical_json(parse(data)) == data


def test_the_canonical_form_of_the_rfc_8785_example() -> None:
    # RFC 8785, section 3.2.2 (the input) and 3.2.4 (its canonical form).
    source = rb"""{
       "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
       "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
       "literals": [null, true, false]
     }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(parse(source)) == expected.encode()


def _cyclic() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**53, -(2**53), Decimal(1), b"bytes", {1: 2}, {"a": {1, 2}}, "\ud800", _cyclic()],
    ids=repr,
)
def test_a_value_without_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonicalError):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b'{"a":1} x',
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b'{"a":1,"\\u0061":2}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"[-1e400]",
        b"9007199254740993",
        b"-9007199254740993",
        b"1152921504606846976",
        b"1" + b"0" * 22,
        b"1" * 5000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b'["\\u0000"]',
        b'"a\0b"',
        b"[" * (DEPTH_LIMIT + 1) + b"]" * (DEPTH_LIMIT + 1),
        b'{"a":' * 50_000,
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_json_that_could_be_read_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(JsonMalformedError):
        json_parse(data, limit_bytes=1_000_000)


def test_nesting_up_to_the_limit_is_read_also_beside_brackets_in_strings() -> None:
    deep = b"[" * (DEPTH_LIMIT - 1) + b'"[[[\\"[{{"' + b"]" * (DEPTH_LIMIT - 1)
    wide = b"[" + b",".join([b"[]"] * 200) + b"]"
    assert parse(deep) is not None
    assert len(parse(wide)) == 200


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1e18, 1.5e16, 2.0**60, 1e20, 1e21, 1e300])
def test_a_large_double_is_read_back_as_itself(value: float) -> None:
    read = parse(canonical_json(value))
    assert isinstance(read, float)
    assert read == value


def test_escapes_that_are_harmless_are_read() -> None:
    assert parse(b'["\\ud83d\\ude00", "\\u00e4", "\\\\u0000"]') == ["\N{GRINNING FACE}", "ä", "\\u0000"]


def test_a_document_over_the_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    assert json_parse(b'"abc"', limit_bytes=5) == "abc"
    with pytest.raises(JsonTooLargeError):
        json_parse(b'"abc"', limit_bytes=4)


@pytest.mark.parametrize("piece", [b'\\"', b'"', b'["', b"[1,", b'{"a":"\\'])
def test_time_grows_no_faster_than_the_document(piece: bytes) -> None:
    data = b"[" * 65 + b'"' + piece * 200_000
    started = time.process_time()
    with pytest.raises(JsonMalformedError):
        json_parse(data, limit_bytes=len(data))
    assert time.process_time() - started < 5


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused_with_the_documented_error(data: bytes) -> None:
    with contextlib.suppress(JsonMalformedError):
        parse(data)


@given(VALUES, st.data())
def test_damaged_json_is_read_or_refused_with_the_documented_error(value: Any, draw: st.DataObject) -> None:
    data = bytearray(json.dumps(value).encode())
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(JsonMalformedError):
        canonical_json(parse(bytes(data)))
