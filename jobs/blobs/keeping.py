"""Rows and bytes of blobs together: the only place that writes either.

1. Whoever means to use a blob keeps it, also if it is there: that takes off the mark of one that nothing wanted (collection.py), so that
   it isn't removed before the row that will refer to it is there. It is written only where there is a mark: receipts of many jobs bring
   the same few bytes at once, and must not wait for each other.
2. A blob whose bytes were removed comes back with the same bytes.
3. A file is kept under the lock of its digest, and that is held till the row is committed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import BinaryIO, ClassVar
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction

from jobs.blobs.locks import digest_lock_shared
from jobs.blobs.store import BlobStore, BlobTooLargeError, chunks_of
from jobs.models import Blob
from workers.protocol.digests import Readable, digest_of
from workers.protocol.problems import ProblemError

_KEEP = """
WITH given AS (
    SELECT * FROM unnest(%(digests)s::text[], %(sizes)s::bigint[], %(data)s::bytea[]) AS g (digest, size_bytes, data)
), again AS (
    UPDATE jobs_blob AS known
    SET unwanted_since = NULL, removed_at = NULL, data = CASE WHEN known.removed_at IS NULL THEN known.data ELSE given.data END
    FROM given WHERE known.digest = given.digest AND known.unwanted_since IS NOT NULL
    RETURNING 1
)
INSERT INTO jobs_blob (digest, size_bytes, data, created_at)
SELECT digest, size_bytes, data, now() FROM given
WHERE (SELECT count(*) FROM again) >= 0  -- has `again` done first: a removal under way is waited for before a row is looked for
ORDER BY digest
ON CONFLICT (digest) DO NOTHING
"""


class BlobGoneError(ProblemError):
    """The bytes were removed as the portal's rules say; their digest and size are still known."""

    code: ClassVar[str] = "blob_gone"
    status: ClassVar[int] = 410
    title: ClassVar[str] = "The bytes are no longer kept"


@cache
def blob_store() -> BlobStore:
    """The store that the settings name."""
    return BlobStore(default_storage, settings.NEXA_BLOB_ROOT / "staging")


def blob_open(blob: Blob | str) -> BinaryIO:
    """The bytes of a blob, or of the one with this digest, for reading; close it.

    Raises BlobGoneError where they were removed by rule, FileNotFoundError where there are none otherwise.
    """
    if isinstance(blob, str):
        found = Blob.objects.filter(pk=blob).first()
        if found is None:
            return blob_store().open(blob)
        blob = found
    if blob.removed_at is not None:
        raise BlobGoneError(
            f"These {blob.size_bytes} bytes were kept until {blob.removed_at:%Y-%m-%d}. Their digest is {blob.digest}: "
            "whoever has them can show that they are the same."
        )
    return blob_store().open(blob.digest) if blob.data is None else io.BytesIO(blob.data)


def blob_write(stream: Readable, *, limit_bytes: int | None = None) -> Blob:
    """Keeps what is left to read of `stream` as a blob; the same bytes give the same one. Raises BlobTooLargeError."""
    head = b"".join(chunks_of(stream, settings.NEXA_BLOB_INLINE_BYTES + 1))
    if len(head) <= settings.NEXA_BLOB_INLINE_BYTES:
        if limit_bytes is not None and len(head) > limit_bytes:
            raise BlobTooLargeError(f"Expected at most {limit_bytes} bytes; the stream holds more.")
        return blob_of_bytes(digest_of(head), head)
    written = blob_store().write(_Rejoined(head, stream), limit_bytes=limit_bytes)
    with transaction.atomic():
        digest_lock_shared(written.digest)
        blob_store().keep(written)
        return _row_keep(written.digest, written.size_bytes, None)


def blob_of_bytes(digest: str, data: bytes) -> Blob:
    """The blob of these few bytes, whose digest the caller has checked; the one that there is, if there is one."""
    return _row_keep(digest, len(data), data)


def blobs_keep(found: Mapping[str, bytes]) -> None:
    """Makes blobs of bytes that came along with messages, whose digests the caller has checked; those that there are stay as they are.

    One statement, and a file for each that is too large for its row. In the order of the digests, so that two that keep the same ones
    wait for each other and never deadlock. Within the caller's transaction.
    """
    rows: list[tuple[str, int, bytes | None]] = []
    for digest, data in sorted(found.items()):
        is_small = len(data) <= settings.NEXA_BLOB_INLINE_BYTES
        if not is_small:
            written = blob_store().write(io.BytesIO(data))
            digest_lock_shared(digest)
            blob_store().keep(written)
        rows.append((digest, len(data), data if is_small else None))
    _rows_keep(rows)


def blob_of_upload(upload_id: UUID, *, digest: str, size_bytes: int) -> Blob:
    """The blob of what was staged for an upload. Raises BlobDigestMismatchError, after which nothing is staged."""
    if size_bytes <= settings.NEXA_BLOB_INLINE_BYTES:
        return blob_of_bytes(digest, blob_store().staged_take(upload_id, digest=digest, size_bytes=size_bytes))
    with transaction.atomic():
        digest_lock_shared(digest)
        blob_store().staged_commit(upload_id, digest=digest, size_bytes=size_bytes)
        return _row_keep(digest, size_bytes, None)


def blob_discard(upload_id: UUID) -> None:
    """Forgets staged bytes of an upload that nobody will finish."""
    with contextlib.suppress(OSError):
        blob_store().staged_discard(upload_id)


def _row_keep(digest: str, size_bytes: int, data: bytes | None) -> Blob:
    _rows_keep([(digest, size_bytes, data)])
    return Blob.objects.get(pk=digest)


def _rows_keep(rows: Sequence[tuple[str, int, bytes | None]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_KEEP, dict(zip(("digests", "sizes", "data"), map(list, zip(*rows, strict=True)), strict=True)))


class _Rejoined:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._rest.read(size)
