"""Advisory locks of PostgreSQL around the files of blobs. A row can be locked where there is one; a file that comes or goes has none.

Whoever keeps a file shares the lock of its digest till its transaction ends, so that many may keep the same bytes at once; whoever removes
one has the lock alone, and passes over a blob that he can't have. All of the store is locked while a backup is made: nothing is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection

from workers.protocol.digests import digest_parse

_FILES: Final = 0x626C6F62
"""Class of the locks by digest; their key is the first four bytes of it. Two digests with one key wait for each other, and that is all."""
_STORE: Final = 0x626C6F6273
"""Key of the lock of the whole store."""


def digest_lock_shared(digest: str) -> None:
    """Keeps the file of this digest from being removed till the transaction ends. Waits for a removal under way."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", [_FILES, _key(digest)])


def digest_lock_try(digest: str) -> bool:
    """Has this digest alone till the transaction ends, unless somebody is keeping its file now, or a backup is being made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s) AND pg_try_advisory_xact_lock(%s, %s)", [_STORE, _FILES, _key(digest)])
        (is_ours,) = cursor.fetchone()
        return bool(is_ours)


@contextmanager
def store_held() -> Iterator[None]:
    """Nothing is removed from the store in this block. It ends with the connection: a killed process holds nothing up.

    Waits for removals under way, and for another that holds the store.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_STORE])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_STORE])


def _key(digest: str) -> int:
    return int.from_bytes(bytes.fromhex(digest_parse(digest)[:8]), "big", signed=True)
