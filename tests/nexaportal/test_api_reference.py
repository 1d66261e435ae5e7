"""The API reference: every operation and schema of the document, and each link within it."""

from __future__ import annotations

import json
import re

import pytest
from django.conf import settings
from django.test import Client

from nexaportal.api_reference import METHODS, kind_of, reference_of

pytestmark = pytest.mark.django_db


def test_every_operation_and_schema_is_on_the_page_once_and_links_lead_to_them() -> None:
    document = json.loads((settings.BASE_DIR / "docs" / "openapi.json").read_text())
    text = Client().get("/docs/api/").content.decode()
    reference = reference_of(document)
    shown = {(one.method, one.path) for _, operations in reference.areas for one in operations}
    assert shown == {(method.upper(), path) for path, item in document["paths"].items() for method in METHODS if method in item}
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/components/schemas/Job"}, ("Job", "Job")),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, ("list of Job", "Job")),
        ({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}, ("string (uuid) or null", "")),
        ({"type": "integer", "minimum": 1, "maximum": 200}, ("integer, 1 to 200", "")),
        ({"type": "number", "minimum": 0}, ("number, at least 0", "")),
        ({"type": "number", "maximum": 9}, ("number, at most 9", "")),
        ({"enum": ["a", "b"]}, ("one of a, b", "")),
        ({"const": 1}, ("exactly 1", "")),
        ({"type": ["string", "null"]}, ("string or null", "")),
        ({}, ("anything", "")),
    ],
)
def test_schemas_in_words(schema: dict[str, object], words: tuple[str, str]) -> None:
    assert kind_of(schema) == words
