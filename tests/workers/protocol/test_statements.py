"""in-toto statements: build, parse, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.errors import (
    DigestMalformedError,
    NotCanonicalError,
    StatementMalformedError,
    StatementTypeWrongError,
)
from workers.protocol.statements import Statement, Subject, statement_build, statement_parse

PREDICATE_TYPE = "https://nexapod.example/receipt/v1"
HEX = "ab" * 32
SUBJECTS = [Subject.of("archive", digest_of(b"archive")), Subject.of("log", digest_of(b"log"))]
PREDICATE = {"exit_code": 0, "usage": {"cpu_seconds": 1.5}, "credits": "3.25"}


def parse(data: bytes) -> Statement:
    return statement_parse(data, predicate_type=PREDICATE_TYPE)


def built() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(statement_build(SUBJECTS, PREDICATE_TYPE, PREDICATE))
    return document


def test_parse_returns_what_was_built() -> None:
    statement = parse(statement_build(SUBJECTS, PREDICATE_TYPE, PREDICATE))
    assert list(statement.subjects) == SUBJECTS
    assert statement.predicate_type == PREDICATE_TYPE
    assert statement.predicate == PREDICATE
    assert statement.subjects[0].digest_text == digest_of(b"archive")


def test_a_statement_has_the_members_that_in_toto_names_in_canonical_form() -> None:
    data = statement_build([Subject.of("a", "sha256:" + HEX)], "t", {"z": 1, "a": 2})
    assert data == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":2,"z":1},"predicateType":"t",'
        b'"subject":[{"digest":{"sha256":"' + HEX.encode() + b'"},"name":"a"}]}'
    )


def test_a_subject_needs_a_well_formed_digest_and_a_name() -> None:
    with pytest.raises(DigestMalformedError):
        Subject.of("a", HEX)
    with pytest.raises(ValidationError):
        Subject.of("", "sha256:" + HEX)


def test_building_needs_subjects_with_names_of_their_own() -> None:
    with pytest.raises(StatementMalformedError):
        statement_build([], PREDICATE_TYPE, {})
    with pytest.raises(StatementMalformedError):
        statement_build([SUBJECTS[0], SUBJECTS[0]], PREDICATE_TYPE, {})
    with pytest.raises(StatementMalformedError):
        statement_build(SUBJECTS, "", {})


def test_building_needs_a_predicate_that_json_can_spell() -> None:
    with pytest.raises(NotCanonicalError):
        statement_build(SUBJECTS, PREDICATE_TYPE, {"energy": float("nan")})


def test_a_statement_with_another_predicate_type_is_refused() -> None:
    with pytest.raises(StatementTypeWrongError):
        statement_parse(statement_build(SUBJECTS, "https://other/v1", {}), predicate_type=PREDICATE_TYPE)


def _subject(**changes: Any) -> dict[str, Any]:
    return {"subject": [{"name": "a", "digest": {"sha256": HEX}} | changes]}


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"_type": None},
        {"predicateType": ""},
        {"predicateType": 1},
        {"predicate": None},
        {"predicate": []},
        {"subject": []},
        {"subject": {}},
        {"subject": "ab"},
        {"subject": [1]},
        {"extra": 1},
        {"type_": "https://in-toto.io/Statement/v1"},
        {"subjects": []},
        {"x" * 5000: 1},
        _subject(name=""),
        _subject(name=1),
        _subject(name="n" * 1025),
        _subject(uri="https://x"),
        _subject(digest={}),
        _subject(digest=HEX),
        _subject(digest={"sha256": HEX.upper()}),
        _subject(digest={"sha256": "sha256:" + HEX}),
        _subject(digest={"sha256": HEX[:-2]}),
        _subject(digest={"sha256": HEX + "\n"}),
        _subject(digest={"sha256": None}),
        _subject(digest={"sha512": HEX}),
        _subject(digest={"sha256": HEX, "sha512": HEX}),
        {"subject": _subject()["subject"] * 2},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_a_malformed_statement_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StatementMalformedError) as caught:
        parse(json.dumps(built() | changes).encode())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["_type", "subject", "predicateType", "predicate"])
def test_a_statement_without_one_of_its_members_is_refused(name: str) -> None:
    document = built()
    del document[name]
    with pytest.raises(StatementMalformedError):
        parse(json.dumps(document).encode())


def test_a_statement_over_the_limit_is_refused() -> None:
    data = statement_build(SUBJECTS, PREDICATE_TYPE, PREDICATE)
    with pytest.raises(StatementMalformedError):
        statement_parse(data, predicate_type=PREDICATE_TYPE, limit_bytes=len(data) - 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["_type", "subject", "predicate", "name", "digest", "sha256"]), inner, max_size=4)
    ),
)


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_with_the_documented_error(data: bytes) -> None:
    with pytest.raises(StatementMalformedError):
        parse(data)


@given(JSON, JSON, st.sampled_from(["_type", "subject", "predicateType", "digest"]))
def test_any_json_in_any_place_is_refused_with_the_documented_error(whole: Any, part: Any, place: str) -> None:
    with pytest.raises(StatementMalformedError):
        parse(json.dumps(whole).encode())
    document = built()
    if place == "digest":
        document["subject"][0]["digest"] = part
    elif place == "predicateType" and isinstance(part, str) and part:
        return
    else:
        document[place] = part
    with pytest.raises(StatementMalformedError):
        parse(canonical_json(document))
