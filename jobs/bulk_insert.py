"""Rows that are alike, in one statement: an array's jobs, replicas and events differ in a few columns.

A thousand model instances, each with every column prepared and every value quoted, cost more than all else that a submission does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import AutoField, Model


def rows_insert(like: Model, records: Sequence[Mapping[str, Any]], *, then: str = "") -> list[tuple[Any, ...]]:
    """Inserts a row for each record: what a record names, by attribute, is its own; all other columns are as `like` has them.

    All records name the same attributes, with values as JSON has them, UUIDs, or bytes. `then`: SQL that follows, ON CONFLICT or RETURNING;
    what it returns is returned. Rows are written in the order of the records.
    """
    if not records:
        return []
    names, expressions, values, own = [], [], [], []
    for field in like._meta.concrete_fields:
        if isinstance(field, AutoField):
            continue
        kind = str(field.cast_db_type(connection)).split("(")[0]  # without the length: a cast would cut a text, an assignment refuses it
        names.append(f'"{field.column}"')
        if field.attname in records[0]:
            expressions.append(f'v."{field.attname}"')
            own.append(f'"{field.attname}" {kind}')
        else:
            expressions.append(f"%s::{kind}")
            values.append(field.get_db_prep_save(field.pre_save(like, add=True), connection))
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{like._meta.db_table}" ({", ".join(names)}) SELECT {", ".join(expressions)}'  # noqa: S608  names of our own columns
            f" FROM jsonb_to_recordset(%s) AS v({', '.join(own)}) {then}",
            [*values, json.dumps(records, default=_text_of)],
        )
        return cursor.fetchall() if cursor.description else []


def _text_of(value: object) -> str:
    """What PostgreSQL reads as this value."""
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)
