"""Many rows in one statement: a statement costs PostgreSQL and psycopg more than a row, so what comes in numbers is written in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Field, Model


def rows_update(rows: Sequence[Model], fields: Sequence[str]) -> None:
    """Writes `fields` of each row, by its primary key: one UPDATE. All rows are of one model, none comes twice.

    Unlike `bulk_update`, whose statement grows with rows times fields, this one has an array for each field.
    """
    if not rows:
        return
    meta = rows[0]._meta
    key = _column(rows[0], "pk")
    columns = [_column(rows[0], name) for name in fields]
    names = ", ".join(f'"{column.column}"' for column in columns)
    # Without the length of a varchar: a cast would cut a text that is too long, an assignment refuses it.
    arrays = ", ".join(f"%s::{str(column.cast_db_type(connection)).split('(')[0]}[]" for column in (key, *columns))
    assignments = ", ".join(f'"{column.column}" = v."{column.column}"' for column in columns)
    values = [[column.get_db_prep_save(getattr(row, column.attname), connection) for row in rows] for column in (key, *columns)]
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "{meta.db_table}" t SET {assignments} FROM unnest({arrays}) AS v(pk, {names}) WHERE t."{key.column}" = v.pk',  # noqa: S608  names of our own columns
            values,
        )


def _column(row: Model, name: str) -> Field[Any, Any]:
    found = row._meta.pk if name == "pk" else row._meta.get_field(name)
    if not isinstance(found, Field) or not found.column:
        raise ValueError(f"expected a column of {type(row).__name__}; found {name!r}")
    return found
