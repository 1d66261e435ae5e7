"""The API reference, rendered here from the OpenAPI document of this release (docs/openapi.json, which `schemas_write` keeps).

Swagger UI and Redoc write styles into the page, which this portal's Content-Security-Policy refuses, and need scripts to show a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from nexaportal.docs import SECTIONS, anchor_of, prose_rendered

METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
_SCHEMA: Final = "#/components/schemas/"
_AREAS: Final = (
    ("Jobs", ("/api/v1/jobs", "/api/v1/blobs", "/api/v1/uploads", "/api/v1/submit-job", "/api/v1/descriptor")),
    ("Nodes", ("/api/v1/nodes", "/api/v1/join-tokens")),
    ("Hosts", ("/api/v1/exchange", "/api/v1/receipts", "/api/v1/coordinator")),
    ("Ledger", ("/api/v1/ledger",)),
    ("People", ("/api/v1/account", "/api/v1/me", "/api/v1/tokens")),
)
OTHERS: Final = "Others"
_AUTHENTICATION: Final = {"bearerToken": "API token", "cookieAuth": "signed-in session", "httpSignature": "node's signature"}


@dataclass(frozen=True)
class Field:
    """A property or a parameter: `kind` is its type in words, `schema` the name of the schema it links to, "" for none."""

    name: str
    kind: str
    schema: str
    required: bool
    description: str
    place: str = ""


@dataclass(frozen=True)
class Answer:
    """One status that an operation answers."""

    status: str
    words: str
    content: str
    schema: str
    kind: str


@dataclass(frozen=True)
class Operation:
    """A method of a path."""

    method: str
    path: str
    anchor: str
    description: str
    authentication: list[str]
    parameters: list[Field]
    body: list[Answer]
    answers: list[Answer]


@dataclass(frozen=True)
class Schema:
    """A named schema of the document."""

    name: str
    description: str
    fields: list[Field]
    values: list[str]
    kind: str


@dataclass(frozen=True)
class Reference:
    """The whole document, in the order in which it is read."""

    version: str
    areas: list[tuple[str, list[Operation]]] = field(default_factory=list)
    schemas: list[Schema] = field(default_factory=list)


@require_GET
def api_reference(request: HttpRequest) -> HttpResponse:
    """Every operation and schema on one page: the browser's own search finds anything."""
    return render(request, "docs/api.html", {"reference": reference(), "sections": SECTIONS, "origin": settings.NEXA_ORIGIN})


@cache
def reference() -> Reference:
    """Of the document that belongs to this release."""
    return reference_of(json.loads((settings.BASE_DIR / "docs" / "openapi.json").read_text(encoding="utf-8")))


def reference_of(document: Mapping[str, Any]) -> Reference:
    """An OpenAPI 3.1 document, sorted by area."""
    areas: dict[str, list[Operation]] = {name: [] for name in (*(name for name, _ in _AREAS), OTHERS)}
    for path, item in document["paths"].items():
        areas[_area_of(path)] += _operations(path, item)
    schemas = [_schema(name, schema) for name, schema in sorted(document.get("components", {}).get("schemas", {}).items())]
    return Reference(document["info"]["version"], [(name, found) for name, found in areas.items() if found], schemas)


def _area_of(path: str) -> str:
    return next((name for name, prefixes in _AREAS if path.startswith(prefixes)), OTHERS)


def _operations(path: str, item: Mapping[str, Any]) -> Iterator[Operation]:
    for method in METHODS:
        if method not in item:
            continue
        found = item[method]
        body = found.get("requestBody", {}).get("content", {})
        security = found.get("security", [{}])
        yield Operation(
            method=method.upper(),
            path=path,
            anchor=anchor_of(f"{method} {path.replace('/', ' ')}"),
            description=prose_rendered(found.get("description") or found.get("summary") or ""),
            authentication=[_AUTHENTICATION.get(name, name) for way in security for name in way],
            parameters=[_parameter(one) for one in [*item.get("parameters", []), *found.get("parameters", [])]],
            body=[_answer("", "", content, media) for content, media in body.items()],
            answers=[answer for status, one in found.get("responses", {}).items() for answer in _answers(str(status), one)],
        )


def _parameter(found: Mapping[str, Any]) -> Field:
    kind, schema = kind_of(found.get("schema", {}))
    return Field(found["name"], kind, schema, bool(found.get("required")), found.get("description", ""), found.get("in", ""))


def _answers(status: str, found: Mapping[str, Any]) -> Iterator[Answer]:
    words = found.get("description") or (HTTPStatus(int(status)).phrase if status.isdigit() else "")
    content = found.get("content") or {"": {}}
    for media_type, media in content.items():
        yield _answer(status, words, media_type, media)


def _answer(status: str, words: str, content: str, media: Mapping[str, Any]) -> Answer:
    kind, schema = kind_of(media.get("schema", {})) if media else ("", "")
    return Answer(status, words, content, schema, kind)


def _schema(name: str, found: Mapping[str, Any]) -> Schema:
    required = set(found.get("required", []))
    fields = []
    for key, value in found.get("properties", {}).items():
        kind, schema = kind_of(value)
        fields.append(Field(key, kind, schema, key in required, value.get("description", "")))
    values = [str(value) for value in found.get("enum", [])]
    return Schema(name, prose_rendered(found.get("description", "")), fields, values, "" if fields or values else kind_of(found)[0])


def kind_of(schema: Mapping[str, Any]) -> tuple[str, str]:
    """A schema in words, and the first named schema in it ("" for none): `list of JobState`, `integer, 1 to 200`, `string or null`."""
    if reference_ := schema.get("$ref"):
        name = str(reference_).removeprefix(_SCHEMA)
        return name, name
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            kinds = [kind_of(one) for one in schema[choice]]
            return " or ".join(dict.fromkeys(kind for kind, _ in kinds)), next((name for _, name in kinds if name), "")
    if schema.get("type") == "array":
        inner, name = kind_of(schema.get("items", {}))
        return f"list of {inner}", name
    return _scalar(schema), ""


def _scalar(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return f"exactly {schema['const']}"
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    words = f"{kind} ({schema['format']})" if "format" in schema else kind
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{words}, {least} to {most}"
    if least is not None:
        return f"{words}, at least {least}"
    return f"{words}, at most {most}" if most is not None else words
