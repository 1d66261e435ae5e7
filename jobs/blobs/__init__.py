"""Blobs: bytes by SHA-256. Few bytes are in the row of their blob, many in the store; staged ones are uploads that are still coming in.

Up to NEXA_BLOB_INLINE_BYTES a blob is a column of its row: written and made durable with the transaction that refers to it, without a
file of its own. A larger one is a file of the store. What nothing wants any more is removed (collection.py).
"""

from jobs.blobs.keeping import (
    BlobGoneError,
    blob_discard,
    blob_of_bytes,
    blob_of_upload,
    blob_open,
    blob_store,
    blob_write,
    blobs_keep,
)
from jobs.blobs.store import READ_BYTES, BlobDigestMismatchError, BlobStore, BlobTooLargeError

__all__ = [
    "READ_BYTES",
    "BlobDigestMismatchError",
    "BlobGoneError",
    "BlobStore",
    "BlobTooLargeError",
    "blob_discard",
    "blob_of_bytes",
    "blob_of_upload",
    "blob_open",
    "blob_store",
    "blob_write",
    "blobs_keep",
]
