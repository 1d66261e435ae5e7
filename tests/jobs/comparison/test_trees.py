"""JSON documents: shape and leaves, pointers, and what can't be read."""

from __future__ import annotations

import json
import time

import pytest

from jobs.comparison import FileUnreadableError, trees
from jobs.comparison.comparators import files_compare
from jobs.comparison.rules import EXACTLY, Tolerance
from tests.jobs.comparison.sides import LOOSE, agree, compared, rule_of

RULE = rule_of("a.json")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1", "1.4", True),
        ("1", "2", False),
        ('{"a": [1, {"b": 2}]}', '{"a": [1.2, {"b": 2.2}]}', True),
        ('{"a": 1}', '{"b": 1}', False),
        ('{"a": 1}', '{"a": 1, "b": 1}', False),
        ("[1, 2]", "[1]", False),
        ("[]", "{}", False),
        ("{}", "{}", True),
        ("null", "null", True),
        ("null", "0", False),
        ("true", "1", False),
        ("true", "true", True),
        ("false", "true", False),
        ("null", "[]", False),
        ('"a"', '"a"', True),
        ('"1"', "1", False),
        ('"a"', '"b"', False),
        ('"a"', "{}", False),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
    ],
)
def test_document(one: str, other: str, expected: bool) -> None:
    assert agree(RULE, one, other) is expected


def test_leaves_are_counted_and_the_worst_has_a_pointer() -> None:
    found = compared(RULE, '{"a": [1, 2, "x", null], "b": {}}', '{"a": [1, 9, "x", null], "b": {}}')
    assert (found.compared, found.exceeding) == (4, 1)
    assert found.worst is not None
    assert (found.worst.place, found.worst.one, found.worst.other) == ("/a/1", "2", "9")


def test_pointers_are_escaped_as_rfc_6901_says() -> None:
    found = compared(RULE, '{"a/b~c": 1}', '{"a/b~c": 9}')
    assert found.worst is not None
    assert found.worst.place == "/a~1b~0c"


def test_worst_does_not_depend_on_the_order_of_members() -> None:
    compared(rule_of("a.json", EXACTLY), '{"a": 1, "b": 1}', '{"b": 9, "a": 2}')


def test_members_have_tolerances_of_their_own() -> None:
    rule = rule_of("a.json", EXACTLY, {"x": Tolerance(absolute=100)})
    assert agree(rule, '{"t": 1, "x": [1]}', '{"t": 1, "x": [50]}')
    assert not agree(rule, '{"t": 1, "x": 1}', '{"t": 2, "x": 1}')
    assert not agree(rule, '{"t": 1, "x": 1}', '{"x": 1}')


@pytest.mark.parametrize("data", ['{"t": 1}', "[1]", "1"])
def test_member_that_is_not_there_is_unreadable(data: str) -> None:
    with pytest.raises(FileUnreadableError, match="expected a JSON object with the member 'x'"):
        compared(rule_of("a.json", columns={"x": LOOSE}), data, data.replace("1", "2"))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"1e999", b"1" * 5000, b"9007199254740993", b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff", b'"\\ud800"'],
)
def test_file_that_cannot_be_read_is_unreadable_on_either_side(data: bytes) -> None:
    for one, other in ((data, b"1"), (b"1", data)):
        with pytest.raises(FileUnreadableError, match="expected JSON"):
            files_compare(RULE, one, other)


def test_documents_are_bounded() -> None:
    with pytest.raises(FileUnreadableError, match=f"at most {trees.DOCUMENT_BYTES_MAX} bytes"):
        files_compare(RULE, b" " * (trees.DOCUMENT_BYTES_MAX + 1), b"1")


def test_values_are_bounded() -> None:
    data = b"[" + b"1," * trees.VALUES_MAX + b"1]"
    with pytest.raises(FileUnreadableError, match=f"at most {trees.VALUES_MAX} values"):
        files_compare(RULE, data, data)


def test_long_names_cost_no_time_at_each_value_below_them() -> None:
    one, other = (json.dumps({"n" * 10**6: [[number] for number in range(start, start + 20_000)]}) for start in (0, 10**6))
    started = time.process_time()
    found = compared(RULE, one, other)
    assert time.process_time() - started < 5
    assert found.exceeding == 20_000
    assert found.worst is not None
    assert len(found.worst.place) < 500
