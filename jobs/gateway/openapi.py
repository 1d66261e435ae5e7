"""The gateway's addresses in the OpenAPI document: plain views, so their paths are written here, with the messages' own schemas."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from nodes.openapi import HTTP_SIGNATURE_NAME, HTTP_SIGNATURE_SCHEME
from workers.protocol.messages.delivery import ReceiptsAnswer, ReceiptSubmission
from workers.protocol.messages.exchange import ExchangeAnswer, ExchangeRequest

_REFERENCE: Final = "#/components/schemas/{model}"
_SIGNED: Final[list[dict[str, list[str]]]] = [{HTTP_SIGNATURE_NAME: []}]
_SIGNED_OR_TOKEN: Final[list[dict[str, list[str]]]] = [{HTTP_SIGNATURE_NAME: []}, {"bearerToken": []}]
_DIGEST: Final = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_SIZE: Final = {"type": "integer", "minimum": 0}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}


def gateway_paths_add(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A drf-spectacular postprocessing hook: adds the gateway's paths and the schemas of its messages."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    messages = [(ExchangeRequest, "validation"), (ReceiptSubmission, "validation"), (ExchangeAnswer, "serialization")]
    _, definitions = models_json_schema(
        [*messages, (ReceiptsAnswer, "serialization")],  # type: ignore[list-item]  # the modes are literals
        ref_template=_REFERENCE,
    )
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    schemas.setdefault("ProblemDetails", _PROBLEM)
    components.setdefault("securitySchemes", {}).setdefault(HTTP_SIGNATURE_NAME, HTTP_SIGNATURE_SCHEME)
    result.setdefault("paths", {}).update(
        _flattened(
            {
                "/api/v1/exchange": {
                    "post": _message("exchange", "Renew leases, ask for orders", "ExchangeRequest", "ExchangeAnswer", 409)
                },
                "/api/v1/nodes/self/leave": {"post": _leave()},
                "/api/v1/receipts": {
                    "post": _message("receipts_submit", "Report runs; a result for each", "ReceiptSubmission", "ReceiptsAnswer")
                },
                "/api/v1/uploads": {"post": _upload_create(), "options": _upload_options()},
                "/api/v1/uploads/{upload_id}": {
                    "parameters": [_parameter("upload_id", "path", {"type": "string", "format": "uuid"}), _tus()],
                    "head": _upload_head(),
                    "patch": _upload_patch(),
                },
                "/api/v1/blobs/{digest}": {
                    "parameters": [
                        _parameter("digest", "path", _DIGEST),
                        _parameter("Range", "header", {"type": "string"}, required=False),
                    ],
                    "get": _blob("blob_read", "Bytes by digest", with_body=True),
                    "head": _blob("blob_size", "Size of a blob", with_body=False),
                },
            }
        )
    )
    return result


def _flattened(paths: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Parameters of a path as those of each of its operations: drf-spectacular takes every member of a path for an operation."""
    for operations in paths.values():
        shared = operations.pop("parameters", [])
        for operation in operations.values():
            if shared:
                operation["parameters"] = [*shared, *operation.get("parameters", [])]
    return paths


def _operation(name: str, summary: str, security: list[dict[str, list[str]]], responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "tags": ["gateway"], "security": security, "responses": responses, **more}


def _message(name: str, summary: str, request: str, answer: str, *refusals: int) -> dict[str, Any]:
    return _operation(
        name,
        summary,
        _SIGNED,
        {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=answer)}}}},
            **_problems(400, 401, 403, 404, 413, 415, *refusals),
        },
        requestBody={"required": True, "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=request)}}}},
    )


def _leave() -> dict[str, Any]:
    return _operation(
        "node_leave",
        "Stop being a node: its leases are given back, its key opens nothing any more",
        _SIGNED,
        {"204": {"description": "Left, now or before."}, **_problems(400, 401, 403, 413)},
    )


def _upload_create() -> dict[str, Any]:
    metadata = "tus metadata: `digest` (of the whole) and, from hosts, `lease_id`, each with the base64 of its value"
    return _operation(
        "upload_create",
        "Announce a resumable upload (tus 1.0)",
        _SIGNED_OR_TOKEN,
        {
            "201": {
                "description": "Announced, now or before; Upload-Offset says where it stands.",
                "headers": {"Location": _header({"type": "string"}), "Upload-Offset": _header(_SIZE), **_TUS_HEADER},
            },
            **_problems(400, 401, 403, 404, 409, 412, 413, 429, 460),
        },
        parameters=[
            _tus(),
            _parameter("Upload-Length", "header", _SIZE),
            {**_parameter("Upload-Metadata", "header", {"type": "string"}), "description": metadata},
        ],
    )


def _upload_options() -> dict[str, Any]:
    responses = {"204": {"description": "See the Tus- fields.", "headers": _TUS_HEADER}}
    return _operation("upload_options", "What of tus is spoken", [], responses)


def _upload_head() -> dict[str, Any]:
    headers = {"Upload-Offset": _header(_SIZE), "Upload-Length": _header(_SIZE), **_TUS_HEADER}
    return _operation(
        "upload_offset",
        "Where an upload stands",
        _SIGNED_OR_TOKEN,
        {"200": {"description": "Its offset and length.", "headers": headers}, **_problems(401, 403, 404, 412, with_body=False)},
    )


def _upload_patch() -> dict[str, Any]:
    return _operation(
        "upload_append",
        "Add the next chunk, of at most 8 MiB; the last one commits",
        _SIGNED_OR_TOKEN,
        {
            "204": {"description": "Added.", "headers": {"Upload-Offset": _header(_SIZE), **_TUS_HEADER}},
            **_problems(400, 401, 403, 404, 409, 412, 413, 415, 460),
        },
        parameters=[_parameter("Upload-Offset", "header", _SIZE)],
        requestBody={"required": True, "content": {"application/offset+octet-stream": _BYTES}},
    )


def _blob(name: str, summary: str, *, with_body: bool) -> dict[str, Any]:
    content = {"content": {"application/octet-stream": _BYTES}} if with_body else {}
    return _operation(
        name,
        summary,
        _SIGNED_OR_TOKEN,
        {
            "200": {"description": "The whole.", **content},
            "206": {"description": "The range asked for.", **content},
            "416": {"description": "The range is not in the blob."},
            **_problems(400, 401, 403, 404, with_body=with_body),
        },
    )


def _problems(*statuses: int, with_body: bool = True) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model="ProblemDetails")}
    content = {"content": {"application/problem+json": {"schema": schema}}} if with_body else {}
    return {str(status): {"description": "A problem; `code` says which.", **content} for status in statuses}


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _tus() -> dict[str, Any]:
    return _parameter("Tus-Resumable", "header", {"type": "string", "enum": ["1.0.0"]})


def _header(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema}


_TUS_HEADER: Final = {"Tus-Resumable": _header({"type": "string"})}
