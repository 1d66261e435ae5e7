"""Arrays as documents: what each item makes of the template, and that no descriptor gets in by an array that would not get in alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from jobs.descriptor import DescriptorInvalidError, JobArray, array_parse, descriptor_digest, descriptor_document, descriptor_parse
from jobs.descriptor.arrays import ARRAY_BYTES_MAX, ARRAY_ITEMS_MAX, ARRAY_WRITTEN_BYTES_MAX
from jobs.descriptor.parsing import well_formed

DIGEST = "sha256:" + "0" * 64
TEMPLATE: dict[str, Any] = {"schema_version": "1.0", "type": "test", "docker_image": "example/science:1.0", "estimated_flops": 1e12}


def written(template: Any, items: Any) -> bytes:
    return json.dumps({"template": template, "items": items}).encode()


def faults_of(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(DescriptorInvalidError) as caught:
        array_parse(data)
    return [(fault.path, fault.code) for fault in caught.value.faults]


def merged(template: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """The descriptor that somebody would have written without arrays."""
    whole = {**template, **item}
    for name in ("inputs", "input_files"):
        if isinstance(item.get(name), list) and isinstance(template.get(name), list):
            whole[name] = template[name] + item[name]
    if isinstance(item.get("environment"), dict) and isinstance(template.get("environment"), dict):
        whole["environment"] = template["environment"] | item["environment"]
    return whole


def test_an_item_replaces_and_adds() -> None:
    template = {
        **TEMPLATE,
        "title": "all",
        "command": ["run"],
        "arguments": ["--all"],
        "environment": {"A": "1", "B": "1"},
        "inputs": [{"path": "a", "digest": DIGEST}],
        "input_files": ["a"],
    }
    own = {
        "title": "one",
        "arguments": ["--one"],
        "environment": {"B": "2", "C": "2"},
        "inputs": [{"path": "b", "digest": DIGEST, "size_bytes": 3}],
        "input_files": ["b"],
    }
    plain, changed = array_parse(written(template, [{"job_id": "plain"}, {"job_id": "changed", **own}])).jobs
    assert (plain.document["title"], plain.document["arguments"], plain.document["environment"]) == ("all", ["--all"], {"A": "1", "B": "1"})
    document = changed.document
    assert (document["job_id"], document["title"], document["command"], document["arguments"]) == ("changed", "one", ["run"], ["--one"])
    assert document["environment"] == {"A": "1", "B": "2", "C": "2"}
    assert [each["path"] for each in document["inputs"]] == document["input_files"] == ["a", "b"]
    assert [each.path for each in changed.inputs] == ["a", "b"]


BAD_ITEMS: list[tuple[dict[str, Any], str, str]] = [
    ({"job_id": None}, "/items/1/job_id", "wrong_type"),
    ({"job_id": "a b"}, "/items/1/job_id", "malformed"),
    ({"job_id": "first"}, "/items/1/job_id", "label_duplicate"),
    ({"tier": 1}, "/items/1/tier", "unknown_field"),
    ({"command": ["x"]}, "/items/1/command", "unknown_field"),
    ({"title": None}, "/items/1/title", "wrong_type"),
    ({"title": "x" * 201}, "/items/1/title", "too_long"),
    ({"arguments": [1]}, "/items/1/arguments/0", "wrong_type"),
    ({"arguments": ["x" * 4097]}, "/items/1/arguments/0", "too_long"),
    ({"arguments": ["x" * 4000] * 17}, "/items/1/arguments", "too_large"),
    ({"environment": {"1": ""}}, "/items/1/environment/1", "malformed"),
    ({"environment": {"NEXA_X": ""}}, "/items/1/environment/NEXA_X", "environment_reserved"),
    ({"environment": {f"V{n}": "" for n in range(256)}}, "/items/1/environment", "too_long"),
    ({"environment": {f"V{n}": "x" * 8000 for n in range(9)}}, "/items/1/environment", "too_large"),
    ({"inputs": [{"path": "../x", "digest": DIGEST}]}, "/items/1/inputs/0/path", "malformed"),
    ({"inputs": [{"path": "SHARED", "digest": DIGEST}]}, "/items/1/inputs/0/path", "path_duplicate"),
    ({"inputs": [{"path": "shared/x", "digest": DIGEST}]}, "/items/1/inputs/0/path", "path_conflict"),
    ({"inputs": [{"path": f"{n}", "digest": DIGEST} for n in range(1000)]}, "/items/1/inputs", "too_long"),
    ({"input_files": ["nowhere"]}, "/items/1/input_files/0", "input_source_missing"),
    ({"inputs": [{"path": "needed", "digest": DIGEST}, {"path": "needed/x", "digest": DIGEST}]}, "/items/1/inputs/1/path", "path_conflict"),
]


@pytest.mark.parametrize(("bad", "path", "code"), BAD_ITEMS, ids=[f"{path} {code}" for _, path, code in BAD_ITEMS])
def test_a_fault_of_an_item_is_told_at_its_place(bad: dict[str, Any], path: str, code: str) -> None:
    template = {
        **TEMPLATE,
        "environment": {"OWN": "1"},
        "inputs": [{"path": "shared", "digest": DIGEST}],
    }
    assert (path, code) in faults_of(written(template, [{"job_id": "first"}, {"job_id": "second", **bad}, {"job_id": "third"}]))


@pytest.mark.parametrize(
    ("document", "path", "code"),
    [
        ([], "", "wrong_type"),
        ({}, "/template", "missing"),
        ({"template": TEMPLATE}, "/items", "missing"),
        ({"template": TEMPLATE, "items": []}, "/items", "too_short"),
        ({"template": TEMPLATE, "items": [{}]}, "/items/0/job_id", "missing"),
        ({"template": TEMPLATE, "items": [{"job_id": "a"}], "more": 1}, "/more", "unknown_field"),
        ({"template": TEMPLATE, "items": [{"job_id": f"{n}"} for n in range(ARRAY_ITEMS_MAX + 1)]}, "/items", "too_long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_array_is_refused(document: Any, path: str, code: str) -> None:
    assert (path, code) in faults_of(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"job_id": "x"}, "/template/job_id", "unknown_field"),
        ({"tier": 9}, "/template/tier", "out_of_range"),
        ({"schema_version": "2"}, "/template/schema_version", "schema_version_unsupported"),
        ({"verification": {"quorum": 2}}, "/template/verification/quorum", "quorum_exceeds_copies"),
        ({"input_files": ["a"]}, "/template/input_files/0", "input_source_missing"),
        ({"title": "x" * 600_000}, "/template", "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_of_the_template_is_told_once(changes: dict[str, Any], path: str, code: str) -> None:
    assert faults_of(written({**TEMPLATE, **changes}, [{"job_id": "a"}, {"job_id": "b"}])) == [(path, code)]


@pytest.mark.parametrize("data", [b"", b"{", b'{"items":[],"items":[]}', b"\xff", b" " * (ARRAY_BYTES_MAX + 1)])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    assert faults_of(data)[0][0] == ""


def test_a_fault_of_the_template_with_an_item_names_the_item() -> None:
    """The template's file is given by each item; one forgets it."""
    template = {**TEMPLATE, "input_files": ["in"], "inputs": [{"path": "other", "digest": DIGEST}]}
    own = {"inputs": [{"path": "in", "digest": DIGEST}]}
    assert array_parse(written(template, [{"job_id": "a", **own}])).jobs[0].input_files == ("in",)
    wrong = {"inputs": [{"path": "mistyped", "digest": DIGEST}]}
    assert faults_of(written(template, [{"job_id": "a", **own}, {"job_id": "b", **wrong}])) == [("/items/1", "input_source_missing")]


def test_values_of_the_environment_are_not_repeated() -> None:
    with pytest.raises(DescriptorInvalidError) as caught:
        array_parse(written(TEMPLATE, [{"job_id": "a", "environment": {"TOKEN": 1234567}}]))
    assert "1234567" not in json.dumps(caught.value.document())


def test_a_small_request_does_not_become_a_large_table() -> None:
    template = {**TEMPLATE, "arguments": ["x" * 4000] * 10}
    items = [{"job_id": f"{n}"} for n in range(ARRAY_WRITTEN_BYTES_MAX // 40_000 + 1)]
    assert faults_of(written(template, items)) == [("/items", "too_large")]
    assert len(array_parse(written(template, items[:-20])).jobs) == len(items) - 20


def rarely(good: st.SearchStrategy[Any], *bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is right, so that whole arrays often are."""
    return st.integers(0, 19).flatmap(lambda number: st.one_of(*bad) if number == 13 else good)


names = rarely(st.sampled_from(["a", "b", "c", "d/e", "d/f", "ä"]), st.sampled_from(["A", "d", "a/x", "../x"]))
titles = rarely(st.sampled_from(["", "one", "ü"]), st.just("x" * 201), st.none(), st.integers())
arguments = rarely(
    st.lists(st.sampled_from(["", "x", "ü\n", "x" * 4096]), max_size=4), st.just(["x" * 4097]), st.just(["x" * 4096] * 17), st.none()
)
environments = rarely(
    st.dictionaries(st.sampled_from(["A", "B", "C"]), st.sampled_from(["", "v", "x" * 8192]), max_size=3),
    st.dictionaries(st.sampled_from(["NEXA_A", "nexa_b", "1", ""]), st.just("v"), min_size=1),
    st.fixed_dictionaries({f"V{number}": st.just("ü" * 4000) for number in range(9)}),
    st.just(5),
)
inputs = st.lists(
    st.fixed_dictionaries(
        {"path": names, "digest": st.just(DIGEST)},
        optional={"size_bytes": rarely(st.sampled_from([0, 5, None]), st.sampled_from([-1, 1.5]))},
    ),
    max_size=2,
    unique_by=lambda one: one["path"],
)
input_files = rarely(st.just([]), st.lists(names, max_size=3))
overrides = {"title": titles, "arguments": arguments, "environment": environments, "inputs": inputs, "input_files": input_files}
templates = st.fixed_dictionaries(
    {"command": st.sampled_from([[], ["run"], ["x" * 4000] * 15])},
    optional={
        **overrides,
        "input_uri": rarely(st.just("https://x/"), st.just("")),
        "tier": rarely(st.just(0), st.sampled_from([1, "0"])),
        "priority": st.integers(-10, 10),
    },
)
items = st.lists(
    st.fixed_dictionaries({"job_id": rarely(st.sampled_from("abcdefgh"), st.just("e f"))}, optional=overrides),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["job_id"],
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(templates, rarely(items, items.map(lambda found: [*found, *found])))
def test_an_array_is_accepted_exactly_if_each_descriptor_would_be(template: dict[str, Any], items: list[dict[str, Any]]) -> None:
    template = {**TEMPLATE, **template}
    singles = [accepted(merged(template, item)) for item in items]
    labels = [item["job_id"] for item in items]
    expected = None not in singles and len(set(labels)) == len(labels) and template_is_well_formed(template)
    event(f"accepted: {expected}")
    found = array_accepted(written(template, items))
    assert (found is not None) == expected
    if found is None:
        return
    for planned, single in zip(found.jobs, singles, strict=True):
        assert single is not None
        assert (planned.label, planned.digest) == (single.job_id, descriptor_digest(single))
        assert planned.document == descriptor_document(single)
        assert (planned.inputs, planned.input_files) == (single.inputs, single.input_files)


def accepted(document: dict[str, Any]) -> Any:
    try:
        return descriptor_parse(json.dumps(document).encode())
    except DescriptorInvalidError:
        return None


def array_accepted(data: bytes) -> JobArray | None:
    try:
        return array_parse(data)
    except DescriptorInvalidError:
        return None


def template_is_well_formed(template: dict[str, Any]) -> bool:
    whole = {**template, "job_id": "any"}
    try:
        well_formed(whole, json.dumps(whole).encode())
    except DescriptorInvalidError:
        return False
    return True
