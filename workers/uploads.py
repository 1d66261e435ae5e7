"""Sending blobs to the portal: tus 1.0 (core and creation) in signed chunks, going on where the portal says that it stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from workers.journal import UploadRow
from workers.portal import PortalClient, PortalRefusedError, UploadState
from workers.protocol.messages import UPLOAD_CHUNK_BYTES_MAX

_LOST_CODES: Final = frozenset({"upload_unknown", "upload_digest_mismatch"})
"""The portal no longer has what was sent: it restarted between a chunk and its record, or lost its staging folder."""

_RESTARTS_MAX: Final = 3
_OFFSET_WRONG_STATUS: Final = 409


def upload_send(
    upload: UploadRow,
    *,
    portal: PortalClient,
    note: Callable[[UploadState], None],
    chunk_bytes: int = UPLOAD_CHUNK_BYTES_MAX,
) -> None:
    """Return when the portal has every byte of the file; `note` is told of each step, so that a restart goes on from there.

    An upload that the portal has lost starts anew, a few times: the run is done, and only its bytes have to arrive.
    Raises PortalError (unreachable: call again and it resumes; refused: this blob is not wanted) and OSError for the file.
    """
    for _ in range(_RESTARTS_MAX):
        try:
            _send(upload, portal, note, chunk_bytes)
        except PortalRefusedError as error:
            if error.code not in _LOST_CODES:
                raise
            upload = replace(upload, url=None)
        else:
            return
    _send(upload, portal, note, chunk_bytes)


def _send(upload: UploadRow, portal: PortalClient, note: Callable[[UploadState], None], chunk_bytes: int) -> None:
    state = _resume(upload, portal)
    note(state)
    with upload.path.open("rb") as file:
        while state.offset_bytes < upload.size_bytes:
            file.seek(state.offset_bytes)
            chunk = file.read(min(chunk_bytes, upload.size_bytes - state.offset_bytes))
            if not chunk:
                raise OSError(f"{upload.path.name} is shorter than the {upload.size_bytes} bytes that it was.")
            try:
                state = portal.upload_append(state.url, offset_bytes=state.offset_bytes, chunk=chunk, size_bytes=upload.size_bytes)
            except PortalRefusedError as error:
                # An answer of ours got lost: the portal is further than we know. Only moving on is worth another try.
                found = _moved(upload, state, portal) if error.status == _OFFSET_WRONG_STATUS else None
                if found is None:
                    raise
                state = found
            note(state)


def _resume(upload: UploadRow, portal: PortalClient) -> UploadState:
    if upload.url is not None:
        # An answer to HEAD has no body that says why not: gone, a wrong clock, a closed lease. Announcing again finds the upload, or tells.
        with suppress(PortalRefusedError):
            return portal.upload_offset(upload.url, size_bytes=upload.size_bytes)
    return portal.upload_create(lease_id=upload.lease_id, digest=upload.digest, size_bytes=upload.size_bytes)


def _moved(upload: UploadRow, state: UploadState, portal: PortalClient) -> UploadState | None:
    found = portal.upload_offset(state.url, size_bytes=upload.size_bytes)
    return found if found.offset_bytes > state.offset_bytes else None
