"""Sending blobs to the portal: tus 1.0 (core and creation) in signed chunks, going on where the portal says that it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, Final

from workers.journal import UploadRow
from workers.portal import (
    PortalClient,
    PortalInterruptedError,
    PortalProtocolError,
    PortalRefusedError,
    PortalTooLargeError,
    PortalUnreachableError,
    UploadState,
)
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX

CHUNK_BYTES_MIN: Final = 16 * 1024
CHUNK_BYTES_FIRST: Final = 256 * 1024
CHUNK_SECONDS: Final = 2.0
"""How long a chunk should be under way: far below what a client or a proxy waits for an answer, far above a round trip."""

_LOST_CODES: Final = frozenset({"upload_unknown", "upload_digest_mismatch"})
"""The portal no longer has what was sent: it restarted between a chunk and its record, or lost its staging folder."""

_RESTARTS_MAX: Final = 3
_OFFSET_WRONG_STATUS: Final = 409


class BlobLostError(Exception):
    """A file that was to be sent is gone, or not what it was: no other try brings it back."""


class ChunkSize:
    """How many bytes to send at once, learnt from how long they take: a chunk counts only once the portal has all of it.

    Begins small, so that the first one gets through a slow uplink. Several uploads over one uplink may share one.
    """

    def __init__(self, first_bytes: int = CHUNK_BYTES_FIRST) -> None:
        self.size_bytes = first_bytes

    def took(self, size_bytes: int, seconds: float) -> None:
        """A chunk arrived. The size moves by a factor of four at most, since one chunk says little."""
        fitting = int(size_bytes * CHUNK_SECONDS / max(seconds, 0.001))
        # The rest of a file may show that chunks are too large, but not that they could be larger.
        if fitting < size_bytes or size_bytes >= self.size_bytes:
            self._set(min(max(fitting, size_bytes // 4), size_bytes * 4))

    def failed(self, size_bytes: int, seconds: float) -> None:
        """A chunk did not arrive. After so long, its size may be why."""
        if seconds >= CHUNK_SECONDS:
            self._set(size_bytes // 4)

    def too_large(self, size_bytes: int) -> None:
        """A chunk was refused for its size."""
        self._set(size_bytes // 4)

    def _set(self, size_bytes: int) -> None:
        self.size_bytes = max(CHUNK_BYTES_MIN, min(size_bytes, UPLOAD_CHUNK_BYTES_MAX))


def upload_send(
    upload: UploadRow,
    *,
    portal: PortalClient,
    note: Callable[[UploadState], None],
    chunk: ChunkSize,
    stop: threading.Event,
) -> None:
    """Return when the portal has every byte of the file; `note` is told of each step, so that a restart goes on from there.

    `chunk` learns how fast the uplink is: keep it for the next call. Once `stop` is set, no further chunk is begun.

    An upload that the portal has lost starts anew, a few times: the run is done, and only its bytes have to arrive.
    Raises PortalError (unreachable: call again and it resumes; refused: this blob is not wanted), BlobLostError, and OSError where the
    file can't be read now.
    """
    for _ in range(_RESTARTS_MAX):
        try:
            _send(upload, portal, note, chunk, stop)
        except PortalRefusedError as error:
            if error.code not in _LOST_CODES:
                raise
            upload = replace(upload, url=None)
        else:
            return
    _send(upload, portal, note, chunk, stop)


def _send(upload: UploadRow, portal: PortalClient, note: Callable[[UploadState], None], chunk: ChunkSize, stop: threading.Event) -> None:
    state = _resume(upload, portal)
    note(state)
    with blob_open(upload) as file:
        while state.offset_bytes < upload.size_bytes:
            if stop.is_set():
                raise PortalInterruptedError(f"Stopped before all of {upload.path.name} was sent.")
            file.seek(state.offset_bytes)
            data = file.read(min(chunk.size_bytes, upload.size_bytes - state.offset_bytes))
            if not data:
                raise BlobLostError(f"{upload.path.name} is shorter than the {upload.size_bytes} bytes that it was.")
            try:
                state = _append(upload, state, data, portal, chunk)
            except PortalRefusedError as error:
                # An answer of ours got lost: the portal is further than we know. Only moving on is worth another try.
                found = _moved(upload, state, portal) if error.status == _OFFSET_WRONG_STATUS else None
                if found is None:
                    raise
                state = found
            note(state)


def blob_open(upload: UploadRow) -> BinaryIO:
    """The file, to read. Raises BlobLostError, OSError."""
    try:
        return upload.path.open("rb")
    except FileNotFoundError as error:
        raise BlobLostError(f"{upload.path.name} is gone.") from error


def _append(upload: UploadRow, state: UploadState, data: bytes, portal: PortalClient, chunk: ChunkSize) -> UploadState:
    began = time.monotonic()
    try:
        state = portal.upload_append(state.url, offset_bytes=state.offset_bytes, chunk=data, size_bytes=upload.size_bytes)
    except PortalInterruptedError:
        raise
    except PortalTooLargeError:
        chunk.too_large(len(data))
        raise
    except (PortalUnreachableError, PortalProtocolError):  # a proxy's page may mean that the chunk was too large for it
        chunk.failed(len(data), time.monotonic() - began)
        raise
    chunk.took(len(data), time.monotonic() - began)
    return state


def _resume(upload: UploadRow, portal: PortalClient) -> UploadState:
    if upload.url is not None:
        # An answer to HEAD has no body that says why not: gone, a wrong clock, a closed lease. Announcing again finds the upload, or tells.
        with suppress(PortalRefusedError):
            return portal.upload_offset(upload.url, size_bytes=upload.size_bytes)
    return portal.upload_create(lease_id=upload.lease_id, digest=upload.digest, size_bytes=upload.size_bytes)


def _moved(upload: UploadRow, state: UploadState, portal: PortalClient) -> UploadState | None:
    found = portal.upload_offset(state.url, size_bytes=upload.size_bytes)
    return found if found.offset_bytes > state.offset_bytes else None
