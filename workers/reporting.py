"""The end of a lease: its receipt is handed in with its small blobs, after its large ones, again and again until the portal has answered.

1. A blob of at most RECEIPT_BLOB_BYTES_MAX comes along with the receipt; a larger one is uploaded before.
2. Where the portal says that bytes are missing, or wants none along, all blobs are uploaded, from where their uploads stand, and the
   receipt is handed in again without them. A few times: after that the lease is refused. Where there are more bytes at once than the
   portal, or a proxy before it, takes, that is no word about the receipt, and never refuses the lease.
3. A file that is gone, or not what was signed for, ends the lease. One that can't be read now is tried again.
4. Nothing of this is noted but what uploads note: whoever starts again after a crash begins with the receipt, which is the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from workers.journal import Journal, UploadRow
from workers.portal import (
    PortalClient,
    PortalProtocolError,
    PortalRefusedError,
    PortalTooLargeError,
    PortalUnreachableError,
    UploadState,
)
from workers.protocol.canonical import json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES
from workers.protocol.messages.delivery import RECEIPT_BLOB_BYTES_MAX, SubmittedReceipt
from workers.protocol.strict_base64 import base64_encode
from workers.receipts import ARCHIVE_FILE, LOG_FILE
from workers.retrying import portal_retry
from workers.transfers import Transfer, TransferProgress, transfers_run
from workers.uploads import BlobLostError, ChunkSize, blob_open, upload_send

log = logging.getLogger(__name__)


class _OverdueError(Exception):
    """The lease's time is long over."""


UPLOAD_CODES: Final = frozenset({"receipt_blob_missing", "receipt_blob_wrong"})
"""Refusals that uploading the blobs, once more or instead, may mend."""
UPLOADS_AGAIN_MAX: Final = 3

REPORT_GRACE: Final = timedelta(days=1)
"""How long after its deadline a lease is still tried to be reported: its slot must not be lost for ever to an answer that never comes."""


class Reporter:
    """Brings one finished lease home, whose files are in `folder`, by its `deadline_at` and a grace.

    `show` is told how many bytes of its blobs the portal has.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        portal: PortalClient,
        folder: Path,
        deadline_at: datetime,
        give_up: threading.Event,
        show: Callable[[float, str], None] = lambda _, __: None,
    ) -> None:
        self._journal = journal
        self._portal = portal
        self._folder = folder
        self._deadline_at = deadline_at
        self._give_up = give_up
        self._show = show
        self._chunk = ChunkSize()
        self._again = 0
        """How often the portal wanted uploads instead of what came along."""

    def report(self, lease_id: UUID) -> bool:
        """Whether nothing is owed for the lease any more: recorded, late, refused or given up. False: not now; it stays in the journal.

        Raises JournalError if the end can't be noted.
        """
        try:
            return portal_retry(lambda: self._deliver(lease_id), stop=self._give_up, passing=(OSError,))
        except PortalRefusedError as error:
            log.warning("lease %s: the portal will not have it: %s", lease_id, error)
            ending = f"refused: {error.code}"
        except BlobLostError as error:
            log.warning("lease %s: what it owes is lost: %s", lease_id, error)
            ending = "given up: blob lost"
        except _OverdueError:
            log.warning("lease %s: not reported a day after its deadline", lease_id)
            ending = "given up: overdue"
        self._journal.lease_ended(lease_id, ending)
        return True

    def _deliver(self, lease_id: UUID) -> None:
        if self._portal.clock.is_confirmed and self._portal.clock.now() > self._deadline_at + REPORT_GRACE:
            raise _OverdueError(lease_id)
        row = self._journal.lease(lease_id)
        if row is None or row.receipt is None:
            raise ValueError(f"lease {lease_id} has no receipt to hand in")
        uploads = self._journal.uploads(lease_id)
        along = {} if self._again else {name: upload for upload in uploads if (name := _member_of(upload)) is not None}
        before = [upload for upload in uploads if upload not in along.values()]
        progress = TransferProgress(sum(upload.size_bytes for upload in before), self._show)
        transfers_run([self._transfer(upload, progress) for upload in before], portal=self._portal, stop=self._give_up)
        try:
            answer = self._portal.receipt_submit(self._submitted(row.receipt, along))
        except PortalTooLargeError:
            self._again = max(self._again, 1)
            raise
        except PortalRefusedError as error:
            if error.code not in UPLOAD_CODES or self._again == UPLOADS_AGAIN_MAX:
                raise
            self._again += 1
            raise PortalUnreachableError(f"{error} All of it is uploaded now") from error
        if answer.replica_id != row.replica_id:
            raise PortalProtocolError(f"Expected an answer about the replica {row.replica_id}; found {answer.replica_id}.")
        self._journal.lease_ended(lease_id, answer.status)

    def _submitted(self, receipt: bytes, along: Mapping[str, UploadRow]) -> SubmittedReceipt:
        """The receipt with the blobs `along`, by member. Raises BlobLostError, OSError."""
        envelope = json_parse(receipt, limit_bytes=ENVELOPE_LIMIT_BYTES)
        return SubmittedReceipt(envelope=envelope, **{name: base64_encode(self._bytes_of(upload)) for name, upload in along.items()})

    def _bytes_of(self, upload: UploadRow) -> bytes:
        with blob_open(self._here(upload)) as file:
            data = file.read()
        if digest_of(data) != upload.digest:
            raise BlobLostError(f"{upload.path.name} is not what it was when the receipt was signed.")
        return data

    def _here(self, upload: UploadRow) -> UploadRow:
        """By name: the node home may have been moved since it was written."""
        return replace(upload, path=self._folder / upload.path.name)

    def _transfer(self, upload: UploadRow, progress: TransferProgress) -> Transfer:
        def note(state: UploadState) -> None:
            self._journal.upload_progress(upload.lease_id, upload.digest, url=state.url, offset_bytes=state.offset_bytes)
            progress.at(upload.digest, state.offset_bytes)

        here = self._here(upload)

        def carry(client: PortalClient, over: threading.Event) -> None:
            upload_send(here, portal=client, note=note, chunk=self._chunk, stop=over)

        return Transfer(upload.size_bytes, carry)


def _member_of(upload: UploadRow) -> str | None:
    """As which member of a submitted receipt a blob may come along; None: it is uploaded before."""
    members = {LOG_FILE: "log", ARCHIVE_FILE: "archive"}
    return members.get(upload.path.name) if upload.size_bytes <= RECEIPT_BLOB_BYTES_MAX else None
