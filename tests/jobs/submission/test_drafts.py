"""Drafts that outgrow the form: they go on as JSON, and nothing that was written or uploaded is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.descriptor.form import FIELDS_MAX
from jobs.submission.drafts import Draft, Tab, draft_of_document, draft_of_post
from tests.factories.jobs import descriptor_make
from workers.protocol.digests import digest_of

FILES = 400


def uploaded(draft: Draft, path: str, data: bytes = b"data") -> Draft:
    return draft.with_input(path=path, digest=digest_of(data), size_bytes=len(data))


def inputs_of(draft: Draft) -> list[dict[str, Any]]:
    document = draft.shown_as(Tab.JSON)
    inputs: list[dict[str, Any]] = json.loads(document.text)["inputs"]
    return inputs


def test_many_uploads_go_on_as_json_before_the_form_has_more_fields_than_it_shows() -> None:
    draft = draft_of_document(descriptor_make(title="many files"))
    told = []
    for number in range(FILES):
        draft = uploaded(draft, f"frame-{number}.bin")
        assert len(draft.fields) <= FIELDS_MAX
        told += [(number, fault.code, fault.message) for fault in draft.unfit]
        draft = draft_of_post({"tab": draft.tab, "text": draft.text, **draft.fields})  # through the browser and back
    assert draft.tab is Tab.JSON
    [(_, code, message)] = told
    assert code == "too_long"
    assert f"The form shows up to {FIELDS_MAX} fields" in message
    assert [one["path"] for one in inputs_of(draft)] == [f"frame-{number}.bin" for number in range(FILES)]
    descriptor, faults = draft.parsed()
    assert descriptor is not None
    assert (len(descriptor.inputs), descriptor.title, faults) == (FILES, "many files", [])


def test_a_row_too_many_goes_on_as_json() -> None:
    draft = draft_of_document(descriptor_make())
    while draft.tab is Tab.FORM:
        draft = draft.with_row("/inputs")
        assert len(draft.fields) <= FIELDS_MAX
    assert [fault.code for fault in draft.unfit] == ["too_long"]


def test_a_full_form_that_is_no_json_yet_says_why_and_does_not_grow() -> None:
    full = draft_of_document(descriptor_make(environment={f"V{number}": "1" for number in range(10)}))
    while len(full.fields) <= FIELDS_MAX - 3:
        full = full.with_row("/inputs")
    full = draft_of_post({"tab": "form", **full.fields, "/environment/1/name": "V0"})
    for draft in (full.with_row("/inputs"), uploaded(full, "a")):
        assert draft.fields == full.fields
        assert [fault.code for fault in draft.unfit] == ["name_duplicate"]


@pytest.mark.parametrize("inputs", [None, [], [{"path": "a", "digest": digest_of(b"old")}], ["no input", {"path": "b"}]])
def test_an_upload_on_the_tab_of_json_leaves_all_else_as_it_is(inputs: Any) -> None:
    document = {"tpye": "a slip", "inputs": inputs}
    draft = uploaded(Draft(Tab.JSON, {}, json.dumps(document)), "a", b"new")
    found = json.loads(draft.text)
    assert found["tpye"] == "a slip"
    assert {"path": "a", "digest": digest_of(b"new"), "size_bytes": 3} in found["inputs"]
    kept = [one for one in inputs or [] if not (isinstance(one, dict) and one["path"] == "a")]
    assert [one for one in found["inputs"] if one in kept] == kept
    assert len(found["inputs"]) == len(kept) + 1


@pytest.mark.parametrize(("text", "code"), [("{", "json_malformed"), ("[1]", "wrong_type"), ('{"inputs": {"a": 1}}', "wrong_type")])
def test_an_upload_beside_json_that_has_no_place_for_it_says_why(text: str, code: str) -> None:
    draft = uploaded(Draft(Tab.JSON, {}, text), "a")
    assert (draft.text, [fault.code for fault in draft.unfit]) == (text, [code])
