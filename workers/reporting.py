"""The end of a lease: its blobs are uploaded and its receipt handed in, again and again until the portal has answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from workers.journal import Journal, UploadRow
from workers.portal import PortalClient, PortalProtocolError, PortalRefusedError, UploadState
from workers.protocol.canonical import json_parse
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES
from workers.protocol.messages import PROTOCOL_VERSION, ReceiptSubmission
from workers.retrying import portal_retry
from workers.transfers import Transfer, TransferProgress, transfers_run
from workers.uploads import ChunkSize, upload_send

log = logging.getLogger(__name__)


class _OverdueError(Exception):
    """The lease's time is long over."""


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

    def report(self, lease_id: UUID) -> bool:
        """Whether nothing is owed for the lease any more: recorded, late, refused or given up. False: not now; it stays in the journal.

        Raises JournalError if the end can't be noted.
        """
        try:
            return portal_retry(lambda: self._deliver(lease_id), stop=self._give_up)
        except PortalRefusedError as error:
            log.warning("lease %s: the portal will not have it: %s", lease_id, error)
            ending = f"refused: {error.code}"
        except OSError as error:
            # Its blobs are gone or damaged: no other try brings them back.
            log.warning("lease %s: what it owes can't be read any more: %s", lease_id, error)
            ending = "given up: blob lost"
        except _OverdueError:
            log.warning("lease %s: not reported a day after its deadline", lease_id)
            ending = "given up: overdue"
        self._journal.lease_ended(lease_id, ending)
        return True

    def _deliver(self, lease_id: UUID) -> None:
        if self._portal.clock.is_confirmed and self._portal.clock.now() > self._deadline_at + REPORT_GRACE:
            raise _OverdueError(lease_id)
        uploads = self._journal.uploads(lease_id)
        progress = TransferProgress(sum(upload.size_bytes for upload in uploads), self._show)
        transfers_run([self._transfer(upload, progress) for upload in uploads], portal=self._portal, stop=self._give_up)
        row = self._journal.lease(lease_id)
        if row is None or row.receipt is None:
            raise ValueError(f"lease {lease_id} has no receipt to hand in")
        envelope = json_parse(row.receipt, limit_bytes=ENVELOPE_LIMIT_BYTES)
        answer = self._portal.receipt_submit(ReceiptSubmission(protocol_version=PROTOCOL_VERSION, envelope=envelope))
        if answer.replica_id != row.replica_id:
            raise PortalProtocolError(f"Expected an answer about the replica {row.replica_id}; found {answer.replica_id}.")
        self._journal.lease_ended(lease_id, answer.status)

    def _transfer(self, upload: UploadRow, progress: TransferProgress) -> Transfer:
        def note(state: UploadState) -> None:
            self._journal.upload_progress(upload.lease_id, upload.digest, url=state.url, offset_bytes=state.offset_bytes)
            progress.at(upload.digest, state.offset_bytes)

        # By name: the node home may have been moved since it was written.
        here = replace(upload, path=self._folder / upload.path.name)

        def carry(client: PortalClient, over: threading.Event) -> None:
            upload_send(here, portal=client, note=note, chunk=self._chunk, stop=over)

        return Transfer(upload.size_bytes, carry)
