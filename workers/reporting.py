"""The end of a lease: its blobs are uploaded and its receipt handed in, again and again until the portal has answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from workers.backoff import Backoff
from workers.journal import Journal, JournalError
from workers.portal import PortalClient, PortalError, PortalProtocolError, PortalRefusedError, UploadState
from workers.protocol.canonical import json_parse
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES
from workers.protocol.messages import PROTOCOL_VERSION, ReceiptSubmission
from workers.uploads import upload_send

log = logging.getLogger(__name__)

PASSING_CODES = frozenset({"signature_stale", "signature_replayed"})
"""Refusals of one request, not of what it asks: a wrong clock gets set, and a request that a proxy sent twice is signed anew."""


def portal_retry(step: Callable[[], None], *, stop: threading.Event, backoff: Backoff | None = None) -> bool:
    """Call `step` until it returns (True), or until `stop` is set (False). Lets a refusal through: PortalRefusedError.

    An answer that is no answer (a proxy's page, a half-upgraded portal) is waited out like a silent portal, and so is a full disk: what is
    done is not lost for it.
    """
    backoff = backoff or Backoff()
    while not stop.is_set():
        try:
            step()
        except PortalRefusedError as error:
            if error.code not in PASSING_CODES:
                raise
            log.warning("%s; trying again", error)
        except (PortalError, JournalError) as error:
            log.warning("%s; trying again", error)
        else:
            return True
        stop.wait(backoff.failed())
    return False


class Reporter:
    """Brings one finished lease home."""

    def __init__(self, *, journal: Journal, portal: PortalClient, give_up: threading.Event) -> None:
        self._journal = journal
        self._portal = portal
        self._give_up = give_up

    def report(self, lease_id: UUID) -> bool:
        """Whether nothing is owed for the lease any more: recorded, late or refused. False: given up for now; it stays in the journal.

        Raises JournalError if a refusal can't be noted, and OSError when a blob's file is gone.
        """
        try:
            return portal_retry(lambda: self._deliver(lease_id), stop=self._give_up)
        except PortalRefusedError as error:
            log.warning("lease %s: the portal will not have it: %s", lease_id, error)
            self._journal.lease_ended(lease_id, f"refused: {error.code}")
            return True

    def _deliver(self, lease_id: UUID) -> None:
        for upload in self._journal.uploads(lease_id):

            def note(state: UploadState, digest: str = upload.digest) -> None:
                self._journal.upload_progress(lease_id, digest, url=state.url, offset_bytes=state.offset_bytes)

            upload_send(upload, portal=self._portal, note=note)
        row = self._journal.lease(lease_id)
        if row is None or row.receipt is None:
            raise ValueError(f"lease {lease_id} has no receipt to hand in")
        envelope = json_parse(row.receipt, limit_bytes=ENVELOPE_LIMIT_BYTES)
        answer = self._portal.receipt_submit(ReceiptSubmission(protocol_version=PROTOCOL_VERSION, envelope=envelope))
        if answer.replica_id != row.replica_id:
            raise PortalProtocolError(f"Expected an answer about the replica {row.replica_id}; found {answer.replica_id}.")
        self._journal.lease_ended(lease_id, answer.status)
