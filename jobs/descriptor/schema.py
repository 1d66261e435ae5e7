"""The descriptor as JSON Schema 2020-12, for editors and other languages. Rules across fields are the parser's alone."""

from __future__ import annotations

from typing import Any

from jobs.descriptor.model import SCHEMA_VERSION, Descriptor

SCHEMA_ID = f"https://nexapod.org/schemas/descriptor-{SCHEMA_VERSION}.json"


def descriptor_schema() -> dict[str, Any]:
    """The schema document, fresh."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Descriptor.model_json_schema(),
    }
