"""From untrusted bytes to a Descriptor. Nothing but DescriptorInvalidError leaves `descriptor_parse`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jobs.descriptor.consistency import consistency_faults
from jobs.descriptor.errors import DescriptorInvalidError, Fault, pointer
from jobs.descriptor.model import DESCRIPTOR_BYTES_MAX, GB, MB, SCHEMA_VERSION, SPOT_SHARE_DEFAULT, Descriptor, RedundancyPolicy
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.errors import VerificationError

FOUND_CHARACTERS_MAX = 80

_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_pattern_mismatch": "malformed",
    "string_too_long": "too_long",
    "too_long": "too_long",
    "string_too_short": "too_short",
    "too_short": "too_short",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "enum": "not_a_choice",
    "literal_error": "not_a_choice",
}
"""pydantic's error types as our codes; any other is `wrong_type`."""


def descriptor_parse(data: bytes | Mapping[str, Any]) -> Descriptor:
    """The descriptor that `data` spells: a UTF-8 JSON document, or the object that one was read into.

    Strict: no number as text, no unknown or repeated field. Raises DescriptorInvalidError with every fault found; nothing else.
    """
    document = data if isinstance(data, bytes) else _document_of(data)
    try:
        value = json_parse(document, limit_bytes=DESCRIPTOR_BYTES_MAX)
    except VerificationError as error:
        raise DescriptorInvalidError([Fault("", error.code, str(error))]) from error
    if not isinstance(value, dict):
        raise DescriptorInvalidError([Fault("", "wrong_type", f"A descriptor is a JSON object; found {_found(value)}.")])
    descriptor = well_formed(value, document)
    if faults := consistency_faults(descriptor):
        raise DescriptorInvalidError(faults)
    return descriptor


def well_formed(value: Mapping[str, Any], document: bytes) -> Descriptor:
    """The descriptor that `document` spells and `value` was read from, its parts not yet held against each other.

    Raises DescriptorInvalidError.
    """
    version = value.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise DescriptorInvalidError(
            [Fault("/schema_version", "schema_version_unsupported", f"This portal reads {SCHEMA_VERSION!r}; found {_found(version)}.")]
        )
    try:
        return Descriptor.model_validate_json(document, strict=True)
    except ValidationError as error:
        raise DescriptorInvalidError(validation_faults(error)) from error


def validation_faults(error: ValidationError) -> list[Fault]:
    """What pydantic found, as faults of a descriptor."""
    return [_fault_of(each) for each in error.errors(include_url=False)]


def descriptor_digest(descriptor: Descriptor) -> str:
    """The digest of what the submitter wrote: fields they left out don't count, nor do order and spelling. Equal digest, same job."""
    return digest_of(canonical_json(descriptor.model_dump(mode="json", exclude_unset=True)))


def descriptor_document(descriptor: Descriptor) -> dict[str, Any]:
    """The descriptor with every default written out, so that later defaults change no stored job. It parses to an equal plan."""
    limits = descriptor.run_limits
    document = descriptor.model_dump(mode="json", exclude_none=True)
    # A requirement below the least that a container can be given is raised to it.
    least = {"ram_gb": descriptor.memory_bytes / GB, "disk_gb": descriptor.disk_bytes / GB, "cores": descriptor.cpus}
    document["requirements"] = {
        **document["requirements"],
        **{name: value for name, value in least.items() if name in document["requirements"]},
        "gpu": descriptor.gpus > 0,
        "gpu_count": descriptor.gpus,
    }
    if descriptor.verification.policy == RedundancyPolicy.SPOT:
        document["verification"].setdefault("spot_share", SPOT_SHARE_DEFAULT)
    document["limits"] = {
        "wall_seconds": limits.wall_seconds,
        "memory_mb": limits.memory_bytes // MB,
        "cpus": limits.cpus,
        "pids": limits.pids,
        "disk_mb": limits.disk_bytes // MB,
        "output_mb": limits.output_bytes // MB,
    }
    return document


def _document_of(value: object) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DescriptorInvalidError([Fault("", "json_malformed", f"Not a JSON object: {error}.")]) from error


def _fault_of(error: ErrorDetails) -> Fault:
    location = [part for part in error["loc"] if part != "[key]"]
    code = _CODES.get(error["type"], "wrong_type")
    path = pointer(*location)
    match code:
        case "missing":
            message = f"The field {location[-1]} is required. Add it; the descriptor schema says what it holds."
        case "unknown_field":
            message = f"Schema {SCHEMA_VERSION} has no field {_found(location[-1])} here. Remove it or correct its spelling."
        case _:
            # Values of the environment may be secrets: they are not repeated.
            found = "" if "environment" in location else f" Found {_found(error['input'])}."
            message = f"{error['msg']}.{found}"
    return Fault(path, code, message)


def _found(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list() | tuple():
            return f"an array of {len(value)}"
        case _:
            text = json.dumps(value, ensure_ascii=False, default=str)
            return text if len(text) <= FOUND_CHARACTERS_MAX else text[:FOUND_CHARACTERS_MAX] + "…"
