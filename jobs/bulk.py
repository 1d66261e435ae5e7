"""Many rows in one statement: a statement costs PostgreSQL and psycopg more than a row, so what comes in numbers is written in numbers.

A thousand model instances, each with every column prepared and every value quoted, would cost more than all else that happens to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import AutoField, Field, GeneratedField, Model


def rows_update(rows: Sequence[Model], fields: Sequence[str]) -> None:
    """Writes `fields` of each row, by its primary key: one UPDATE. All rows are of one model, none comes twice.

    Unlike `bulk_update`, whose statement grows with rows times fields, this one has an array for each field, and for a field that is the
    same in all rows, as most are of what happens to many at once, its value.
    """
    if not rows:
        return
    meta = rows[0]._meta
    key = _column(rows[0], "pk")
    assignments, shared, names, arrays, own = [], [], ["pk"], [f"%s::{_type_of(key)}[]"], [_prepared(key, rows)]
    for column in (_column(rows[0], name) for name in fields):
        first = getattr(rows[0], column.attname)
        if all(getattr(row, column.attname) == first for row in rows):
            assignments.append(f'"{column.column}" = %s::{_type_of(column)}')
            shared += _prepared(column, rows[:1])
        else:
            assignments.append(f'"{column.column}" = v."{column.column}"')
            names.append(f'"{column.column}"')
            arrays.append(f"%s::{_type_of(column)}[]")
            own.append(_prepared(column, rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "{meta.db_table}" t SET {", ".join(assignments)} FROM unnest({", ".join(arrays)}) AS v({", ".join(names)})'  # noqa: S608  names of our own columns
            f' WHERE t."{key.column}" = v.pk',
            [*shared, *own],
        )


def _prepared(column: Field[Any, Any], rows: Sequence[Model]) -> list[Any]:
    return [column.get_db_prep_save(getattr(row, column.attname), connection) for row in rows]


def _column(row: Model, name: str) -> Field[Any, Any]:
    found = row._meta.pk if name == "pk" else row._meta.get_field(name)
    if not isinstance(found, Field) or not found.column:
        raise ValueError(f"expected a column of {type(row).__name__}; found {name!r}")
    return found


def _type_of(column: Field[Any, Any]) -> str:
    """Without the length of a varchar: a cast would cut a text that is too long, an assignment refuses it."""
    return str(column.cast_db_type(connection)).split("(")[0]


def rows_insert(like: Model, records: Sequence[Mapping[str, Any]], *, then: str = "") -> list[tuple[Any, ...]]:
    """Inserts a row for each record: what a record names, by attribute, is its own; all other columns are as `like` has them.

    All records name the same attributes, with values as JSON has them, UUIDs, or bytes. `then`: SQL that follows, ON CONFLICT or RETURNING;
    what it returns is returned. Rows are written in the order of the records.
    """
    if not records:
        return []
    names, expressions, values, own = [], [], [], []
    for field in like._meta.concrete_fields:
        if isinstance(field, AutoField | GeneratedField):
            continue
        kind = _type_of(field)
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
