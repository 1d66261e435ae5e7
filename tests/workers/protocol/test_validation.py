"""workers/protocol/validation.py: faults named by JSON pointers, and nothing but documented errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.errors import JsonMalformedError, JsonTooLargeError
from workers.protocol.messages.base import Message
from workers.protocol.messages.delivery import ReceiptSubmission
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.validation import (
    ERRORS_MAX,
    MessageInvalidError,
    ProtocolUnsupportedError,
    json_pointer,
    message_parse,
    protocol_version_check,
)

LIMIT_BYTES = 4096


class Part(Message):
    size: int


class Whole(Message):
    parts: tuple[Part, ...]
    by_name: dict[str, Part] = {}


def parse(document: Any, model: type[Message] = Whole) -> Message:
    return message_parse(model, json.dumps(document).encode(), limit_bytes=LIMIT_BYTES)


def faults_of(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(MessageInvalidError) as caught:
        parse(document)
    assert caught.value.status == 400
    return [(fault["path"], fault["code"]) for fault in caught.value.extra["errors"]]


def test_pointer_escapes_as_rfc_6901_section_3_says() -> None:
    assert json_pointer(()) == ""
    assert json_pointer(("a/b", 0, "m~n", "")) == "/a~1b/0/m~0n/"


def test_valid_message_is_read() -> None:
    assert parse({"parts": [{"size": 1}]}) == Whole(parts=(Part(size=1),))


def test_every_fault_is_named_by_its_place() -> None:
    faults = faults_of({"parts": [{"size": 1}, {"size": "x"}, {}], "by_name": {"a/b": {"size": None}}, "more": 1})
    assert faults == [
        ("/parts/1/size", "int_parsing"),
        ("/parts/2/size", "missing"),
        ("/by_name/a~1b/size", "int_type"),
        ("/more", "extra_forbidden"),
    ]


def test_whole_document_of_another_type_has_the_empty_pointer() -> None:
    assert faults_of([]) == [("", "model_type")]


def test_list_of_faults_is_bounded() -> None:
    assert len(faults_of({"parts": [{}] * (ERRORS_MAX + 9)})) == ERRORS_MAX


def test_values_sent_are_never_repeated() -> None:
    with pytest.raises(MessageInvalidError) as caught:
        parse({"parts": "hunter2"})
    assert "hunter2" not in json.dumps(caught.value.document())


@pytest.mark.parametrize("version", [0, 2, -1, 10**15, "2"])
def test_other_protocol_version_is_told_before_unknown_fields(version: Any) -> None:
    document = {"protocol_version": version, "receipts": [{"envelope": {}}]}
    if version != "2":
        document["field_of_the_future"] = 1
    with pytest.raises(ProtocolUnsupportedError) as caught:
        parse(document, ReceiptSubmission)
    assert caught.value.extra["supported"] == [1]


@pytest.mark.parametrize("version", [None, "one", [], {}, 1.5])
def test_protocol_version_that_is_no_number_is_a_fault_of_the_message(version: Any) -> None:
    with pytest.raises(MessageInvalidError):
        parse({"protocol_version": version, "receipts": [{"envelope": {}}]}, ReceiptSubmission)


@pytest.mark.parametrize("document", [None, [], {}, {"protocol_version": 1}])
def test_version_check_passes_what_says_no_other_version(document: Any) -> None:
    protocol_version_check(document)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"parts": [], "parts": []}', b"[" * 1000])
def test_malformed_json_is_told_as_such(body: bytes) -> None:
    with pytest.raises(JsonMalformedError):
        message_parse(Whole, body, limit_bytes=LIMIT_BYTES)


def test_body_beyond_the_limit_is_refused() -> None:
    with pytest.raises(JsonTooLargeError):
        message_parse(Whole, b" " * (LIMIT_BYTES + 1), limit_bytes=LIMIT_BYTES)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_documented_errors_escapes(body: bytes) -> None:
    with pytest.raises((MessageInvalidError, JsonMalformedError, JsonTooLargeError, ProtocolUnsupportedError)):
        message_parse(RegistrationRequest, body, limit_bytes=LIMIT_BYTES)
