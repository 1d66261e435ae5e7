"""The descriptor's form: a field for every leaf of the schema, and nothing lost on the way there and back."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.descriptor import Descriptor, DescriptorInvalidError, descriptor_document, descriptor_parse, descriptor_schema
from jobs.descriptor.form import FIELDS_MAX, FormUnfitError, document_of, fields_of, row_add, row_remove, without_defaults
from jobs.descriptor.numbers import document_text, number_parse, number_text
from jobs.descriptor.shapes import Group, Leaf, Pairs, Rows, Shape, descriptor_shape
from jobs.descriptor.sheet import SECTIONS, Node, sections_of
from tests.factories.jobs import descriptor_make

ROOT = Path(__file__).parents[3]
FOLDING: dict[str, Any] = json.loads((ROOT / "examples" / "folding" / "job.json").read_text())
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
NAMES = st.text("abcXYZ", min_size=1, max_size=4)


def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    """Documents that have the form of the descriptor, whatever the parser says of their values."""
    match shape:
        case Leaf(kind="integer"):
            return st.integers(-(2**53) + 1, 2**53 - 1)
        case Leaf():
            numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-100, 100)
            texts = st.sampled_from(shape.choices) if shape.choices else TEXTS.filter(bool)
            return {"number": numbers, "flag": st.booleans()}.get(shape.kind, texts)
        case Group():
            return st.fixed_dictionaries({}, optional={name: values_of(inner) for name, inner in shape.members.items()})
        case Rows():
            return st.lists(values_of(shape.item), max_size=3)
        case Pairs():
            return st.dictionaries(NAMES, values_of(shape.value), max_size=2)


DOCUMENTS = values_of(descriptor_shape())


def leaves_of(schema: Any, definitions: Any) -> int:
    """How many values the schema itself has, with one row everywhere: counted without the code that makes the form."""
    if "$ref" in schema:
        return leaves_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return leaves_of(next(one for one in schema["anyOf"] if one != {"type": "null"}), definitions)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return sum(leaves_of(inner, definitions) for inner in schema["properties"].values())
        case "object":
            value = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
            return 1 + leaves_of(value, definitions)
        case "array":
            return leaves_of(schema["items"], definitions)
        case _:
            return 1


def with_a_row_everywhere() -> dict[str, str]:
    fields = fields_of({})
    rows = ["/command", "/arguments", "/environment", "/inputs", "/input_files", "/outputs", "/verification/files"]
    for name in [*rows, "/verification/files/0/key", "/verification/files/0/columns"]:
        fields = row_add(fields, name)
    return fields


def nodes_of(fields: dict[str, str]) -> list[Node]:
    def below(node: Node) -> list[Node]:
        return [node, *(inner for child in node.children for inner in below(child))]

    return [inner for section in sections_of(fields, {}) for node in section.nodes for inner in below(node)]


def test_every_leaf_of_the_schema_has_a_field_and_every_field_is_drawn_once() -> None:
    schema = descriptor_schema()
    fields = with_a_row_everywhere()
    assert len(fields) == leaves_of(schema, schema["$defs"])
    drawn = [node.name for node in nodes_of(fields) if node.kind not in ("group", "rows", "pairs", "pair")]
    assert sorted(drawn) == sorted(fields)


def test_every_field_says_what_it_is_for() -> None:
    rows = {"/command/0", "/arguments/0", "/input_files/0", "/verification/files/0/key/0"}
    pairs = {name for name in with_a_row_everywhere() if "/environment/" in name or name.endswith("/columns/0/name")}
    silent = {node.name for node in nodes_of(with_a_row_everywhere()) if not node.help and node.kind != "pair"}
    assert silent <= rows | pairs  # those are explained where their rows are


def test_each_member_stands_in_one_section() -> None:
    placed = [name for _, names in SECTIONS for name in names]
    assert sorted(placed) == sorted(Descriptor.model_fields)


@given(DOCUMENTS)
def test_fields_to_a_document_and_back_are_the_same_fields(document: dict[str, Any]) -> None:
    fields = fields_of(document)
    written = document_of(fields)
    assert written.faults == []
    assert fields_of(written.document) == fields
    assert document_of(fields_of(written.document)).document == written.document


@given(DOCUMENTS)
def test_json_text_reads_back_as_what_was_written(document: dict[str, Any]) -> None:
    assert json.loads(document_text(document)) == document


@pytest.mark.parametrize("document", [FOLDING, descriptor_make(), descriptor_document(descriptor_parse(FOLDING))])
def test_a_descriptor_means_the_same_after_the_form(document: dict[str, Any]) -> None:
    again = document_of(fields_of(document)).document
    assert descriptor_parse(again) == descriptor_parse(document)


def test_the_example_comes_back_to_the_letter() -> None:
    assert document_of(fields_of(FOLDING)).document == FOLDING


def test_without_defaults_a_descriptor_is_shorter_and_means_the_same() -> None:
    stored = descriptor_document(descriptor_parse(FOLDING))
    lean = without_defaults(stored)
    assert descriptor_parse(lean) == descriptor_parse(stored)
    assert "priority" not in lean
    assert "files" not in lean["verification"]


@given(st.dictionaries(st.sampled_from([*with_a_row_everywhere(), "/nowhere", "/inputs/x/path", "/inputs/99999999/path"]), TEXTS))
def test_whatever_a_browser_sends_becomes_a_document_that_the_parser_judges(fields: dict[str, str]) -> None:
    written = document_of(fields)
    with contextlib.suppress(DescriptorInvalidError):  # and nothing else
        descriptor_parse(written.document)
    assert fields_of(written.document).keys() >= {name for name in fields if name.count("/") == 1 and name != "/nowhere"}
    assert sections_of(fields, {})


@given(TEXTS)
def test_what_is_no_number_stays_as_it_was_typed(text: str) -> None:
    fields = {**fields_of({}), "/tier": text}
    found = document_of(fields).document.get("tier", "")
    assert found == text or found == number_parse(text.strip())


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_number_reads_back_as_itself(value: float) -> None:
    found = number_parse(number_text(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["", "1_000", "0x10", "01", "1.", ".5", "NaN", "Infinity", "1e999", "9007199254740993", 50 * "1", "\u0661"]
)
def test_what_json_or_a_descriptor_has_no_number_for(text: str) -> None:
    assert number_parse(text) is None


def test_a_fault_is_placed_at_its_field_though_rows_were_taken_away() -> None:
    fields = fields_of(FOLDING)
    fields = row_remove(fields, "/outputs/0")
    fields["/outputs/2/path"] = "../x"
    written = document_of(fields)
    with pytest.raises(DescriptorInvalidError) as caught:
        descriptor_parse(written.document)
    assert [written.name_of(fault.path) for fault in caught.value.faults] == ["/outputs/2/path"]
    assert written.name_of("/environment/OMP_NUM_THREADS") == "/environment/0/value"
    assert written.name_of("/nowhere/at/all") == ""


def test_an_added_row_is_empty_and_last_and_a_name_without_rows_adds_nothing() -> None:
    fields = row_add(fields_of(FOLDING), "/outputs")
    assert {name: text for name, text in fields.items() if name.startswith("/outputs/3/")} == {
        "/outputs/3/path": "",
        "/outputs/3/required": "",
        "/outputs/3/media_type": "",
    }
    for name in ("/tier", "/requirements", "/outputs/0", "/nowhere", "", "outputs"):
        assert row_add(fields, name) == fields


def test_two_pairs_of_one_name_are_told_and_nothing_is_lost() -> None:
    fields = row_add(fields_of(FOLDING), "/environment")
    fields |= {"/environment/2/name": "OMP_NUM_THREADS", "/environment/2/value": "8"}
    written = document_of(fields)
    [(name, fault)] = written.faults
    assert (name, fault.code) == ("/environment/2/name", "name_duplicate")
    assert written.document["environment"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("document", "path", "code"),
    [
        ({"tpye": "x"}, "/tpye", "unknown_field"),
        ({"requirements": {"ram": 1}}, "/requirements/ram", "unknown_field"),
        ({"requirements": 3}, "/requirements", "wrong_type"),
        ({"title": ["a"]}, "/title", "wrong_type"),
        ({"inputs": {"path": "a"}}, "/inputs", "wrong_type"),
        ({"environment": ["A=1"]}, "/environment", "wrong_type"),
        ({"command": [["a"]]}, "/command/0", "wrong_type"),
        ({"input_files": [str(number) for number in range(FIELDS_MAX + 1)]}, "", "too_long"),
    ],
)
def test_what_no_form_can_show_is_told(document: dict[str, Any], path: str, code: str) -> None:
    with pytest.raises(FormUnfitError) as caught:
        fields_of(document)
    assert [(fault.path, fault.code) for fault in caught.value.faults] == [(path, code)]
    assert caught.value.code == "form_unfit"
