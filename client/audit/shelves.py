"""What an audit must remember of a log of any length: on disk, in one SQLite file, with bounded memory.

A Shelf is a table by key with a bounded cache before it: leaves that belong together come close together, so most reads find theirs there.
A Heap is a table that only grows and is sorted once, at the end: for what needs no answer before (is a key used twice?).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

Row = TypeVar("Row")

CACHE_ROWS: Final = 4096
"""Of each shelf. They are written in the order of their keys, so that a page of the file is touched once."""
PAGE_CACHE_KIBIBYTES: Final = 16 * 1024


def shelves_open(folder: Path) -> sqlite3.Connection:
    """A new database in `folder`. Nothing in it outlives the audit, so nothing is journalled or synced."""
    connection = sqlite3.connect(folder / "audit.sqlite", isolation_level=None)
    for pragma in (
        "journal_mode=OFF",
        "synchronous=OFF",
        "locking_mode=EXCLUSIVE",
        f"cache_size=-{PAGE_CACHE_KIBIBYTES}",
        "temp_store=FILE",  # where SQLite sorts: SQLITE_TMPDIR, TMPDIR, else /var/tmp
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    return connection


class Shelf(Generic[Row]):
    """Rows by key. A row that `get` gave may be changed in place if it is `put` again before the next `get` or `put` of another."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        *,
        encode: Callable[[Row], Any],
        decode: Callable[[Any], Row],
        cache_rows: int = CACHE_ROWS,
    ) -> None:
        """`encode` makes what JSON can hold, `decode` undoes it. `name` is a word of ours."""
        self._connection = connection
        self._encode, self._decode = encode, decode
        self._cache_rows = cache_rows
        self._read: dict[bytes, Row | None] = {}
        self._changed: dict[bytes, Row] = {}
        connection.execute(f"CREATE TABLE {name} (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        self._select = f"SELECT value FROM {name} WHERE key = ?"  # noqa: S608 -- a word of ours
        self._upsert = f"INSERT OR REPLACE INTO {name} VALUES (?, ?)"  # noqa: S608
        self._all = f"SELECT key, value FROM {name} ORDER BY key"  # noqa: S608

    def get(self, key: bytes) -> Row | None:
        """The row; None if there is none."""
        if (row := self._changed.get(key)) is not None:
            return row
        try:
            return self._read[key]
        except KeyError:
            pass
        found = self._connection.execute(self._select, (key,)).fetchone()
        row = None if found is None else self._decode(json.loads(found[0]))
        if len(self._read) >= self._cache_rows:
            self._read.clear()
        self._read[key] = row
        return row

    def put(self, key: bytes, row: Row) -> None:
        """Keeps `row` under `key`, in the place of an earlier one."""
        self._read.pop(key, None)
        self._changed[key] = row
        if len(self._changed) >= self._cache_rows:
            self._write()

    def items(self) -> Iterator[tuple[bytes, Row]]:
        """All rows by key; nothing may be put meanwhile."""
        self._write()
        for key, value in self._connection.execute(self._all):
            yield key, self._decode(json.loads(value))

    def _write(self) -> None:
        rows = [(key, json.dumps(self._encode(self._changed[key]))) for key in sorted(self._changed)]
        self._connection.executemany(self._upsert, rows)
        self._changed.clear()


class Heap:
    """Rows of `columns`, appended in batches. Query it by SQL after `flush`."""

    def __init__(self, connection: sqlite3.Connection, name: str, columns: Sequence[str]) -> None:
        self._connection = connection
        self._rows: list[tuple[Any, ...]] = []
        connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
        self._insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 -- words of ours

    def append(self, *row: Any) -> None:
        """Adds a row."""
        self._rows.append(row)
        if len(self._rows) >= CACHE_ROWS:
            self.flush()

    def flush(self) -> None:
        """Lets queries see every row."""
        self._connection.executemany(self._insert, self._rows)
        self._rows.clear()
