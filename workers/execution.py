"""The life of one order on this host: carried out, signed, reported. However it goes, it ends as a signed receipt.

Where a lease stands is in the journal, so `order_run` can be called for any lease that it holds, once or again after a restart:

1. no receipt: carry the order out, from wherever an earlier process left it (see workers/order_run.py).
2. a receipt: only reporting is left (see workers/reporting.py).

What this host can't write (a full disk) is waited out, and then gone on with as after a restart; the lease is renewed meanwhile. Where
nothing has run yet, that ends after a minute: another host shall have the job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from workers.backoff import Backoff
from workers.coordinator_pin import CoordinatorPin
from workers.folders import folder_remove
from workers.home import NodeHome
from workers.journal import JournalError, LeaseRow, UploadRow
from workers.order_run import OrderRun, Workplace
from workers.orders import OpenedOrder
from workers.portal import PortalClient
from workers.protocol.compute_log import LogRefusedError, LogWriter
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.machine import NodeProfile
from workers.receipts import ARCHIVE_FILE, LOG_FILE, file_sync, receipt_sign
from workers.reporting import Reporter
from workers.runs import Run

log = logging.getLogger(__name__)

RETRY_SECONDS_MAX = 30.0
UNWRITABLE_SECONDS_MAX = 60.0
"""How long a lease is kept of which no container has run, while nothing can be written for it."""


class Executor:
    """Brings leases to their end; one call per lease at a time, several leases at once from several threads."""

    def __init__(
        self,
        *,
        home: NodeHome,
        pin: CoordinatorPin,
        key: PrivateKey,
        profile: NodeProfile,
        workplace: Workplace,
        portal_make: Callable[[], PortalClient],
        give_up: threading.Event,
        unwritable_seconds: float = UNWRITABLE_SECONDS_MAX,
    ) -> None:
        self._unwritable_seconds = unwritable_seconds
        self._home = home
        self._key = key
        self._pin = pin
        self._profile = profile
        self._workplace = workplace
        self._journal = workplace.journal
        self._resources = workplace.resources
        self._runs = workplace.runs
        self._portal_make = portal_make
        self._give_up = give_up

    def order_run(self, lease_id: UUID) -> None:
        """Bring a lease of the journal to its end; unknown and ended ones are done already. Raises nothing.

        Returns early, with the lease still open in the journal, when the worker stops before the portal has answered.
        """
        portal = self._portal_make()
        backoff = Backoff(longest_seconds=RETRY_SECONDS_MAX)
        failing_since: float | None = None
        try:
            while not self._give_up.is_set():
                try:
                    self._lease_serve(lease_id, portal)
                except (JournalError, OSError) as error:
                    log.warning("lease %s: this host can't write what it must, tried again soon: %s", lease_id, error)
                    failing_since = failing_since or time.monotonic()
                    if self._given_up(lease_id, failing_seconds=time.monotonic() - failing_since):
                        return
                    self._give_up.wait(backoff.failed())
                except Exception:
                    # What is signed may be worth credits to its owner: it is not left to the next start.
                    is_owed = self._receipt_is_there(lease_id)
                    outlook = "its report is tried again" if is_owed else "the lease stays open for the next start"
                    log.exception("lease %s: a fault of this software; %s", lease_id, outlook)
                    if not is_owed:
                        return
                    self._give_up.wait(backoff.failed())
                else:
                    return
        finally:
            portal.close()
            self._resources.release(lease_id)
            self._runs.remove(lease_id)

    def _given_up(self, lease_id: UUID, *, failing_seconds: float) -> bool:
        """Whether a lease that this host can't write anything for is over: it was cancelled, its deadline has passed, or nothing has run
        of it for too long, so that another host had better have it: it is renewed no more.
        """
        run = self._runs.find(lease_id)
        cancelled = run.cancelled if run is not None else None
        with suppress(JournalError):
            row = self._journal.lease(lease_id)
            if row is None or row.receipt is not None:
                return False
            if cancelled is not None:
                self._journal.lease_ended(lease_id, f"given up: {cancelled.code}")
                return True
            if row.launches == 0 and failing_seconds >= self._unwritable_seconds:
                log.error("lease %s: given up, as nothing could be written for it and nothing has run", lease_id)
                with suppress(JournalError):  # else it is open at the next start, and the portal says what is to become of it
                    self._journal.lease_ended(lease_id, "given up: home_unwritable")
                return True
        return False

    def _receipt_is_there(self, lease_id: UUID) -> bool:
        """Whether only reporting is left; also where the journal can't say."""
        try:
            row = self._journal.lease(lease_id)
        except JournalError:
            return True
        return row is not None and row.receipt is not None and row.ending is None

    def _lease_serve(self, lease_id: UUID, portal: PortalClient) -> None:
        """As far as a lease comes without a fault of this host. Raises JournalError, OSError."""
        row = self._journal.lease(lease_id)
        if row is None or row.ending is not None:
            return
        try:
            opened = self._pin.order_reopen(row.envelope)
        except VerificationError as error:
            # It was checked before it was journaled: the coordinator's key has changed since, or the journal was.
            log.exception("lease %s: its order can't be read any more and is dropped", lease_id)
            self._journal.lease_ended(lease_id, f"dropped: {error.code}")
            return
        run = self._runs.add(lease_id, deadline_at=opened.order.deadline_at)
        if row.receipt is None:
            self._receipt_make(row, opened, run, portal)
        # What only has to be reported needs no cores.
        self._resources.release(lease_id)
        self._resources.hold_slot(lease_id)
        run.stage_enter(Stage.UPLOADING)
        self._runs.changed()
        if self._reporter(lease_id, opened, portal, run).report(lease_id):
            folder_remove(self._folder(lease_id))

    def _reporter(self, lease_id: UUID, opened: OpenedOrder, portal: PortalClient, run: Run) -> Reporter:
        return Reporter(
            journal=self._journal,
            portal=portal,
            folder=self._folder(lease_id),
            deadline_at=opened.order.deadline_at,
            give_up=self._give_up,
            show=run.show,
        )

    # --- from order to receipt ----------------------------------------------------------------------------------------

    def _receipt_make(self, row: LeaseRow, opened: OpenedOrder, run: Run, portal: PortalClient) -> None:
        folder = self._folder(row.lease_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        log_path = folder / LOG_FILE
        with log_path.open("r+b" if row.started and log_path.exists() else "w+b") as file:
            writer = self._writer(file, opened, begun=row.started)
            if not row.started:
                self._journal.lease_started(row.lease_id)
            outcome = OrderRun(self._workplace, row=row, order=opened.order, run=run, portal=portal, writer=writer, folder=folder).outcome()
            reference = writer.end(
                {
                    "outcome": "completed" if outcome.failure is None else "failed",
                    "exit_code": outcome.exit_code,
                    "failure": None if outcome.failure is None else outcome.failure.model_dump(mode="json"),
                }
            )
            file_sync(file)
        receipt = receipt_sign(
            opened=opened,
            outcome=outcome,
            log=reference,
            key=self._key,
            benchmark_gflops=self._profile.benchmark_gflops,
            engine=self._profile.engine.title,
        )
        uploads = [UploadRow(row.lease_id, reference.digest, reference.size_bytes, log_path, None, 0)]
        if outcome.archive is not None:
            archive = outcome.archive
            uploads.append(UploadRow(row.lease_id, archive.digest, archive.size_bytes, folder / ARCHIVE_FILE, None, 0))
        failure_code = None if outcome.failure is None else outcome.failure.code
        self._journal.lease_finished(row.lease_id, receipt=receipt, failure=failure_code, uploads=uploads)
        log.info("lease %s: %s", row.lease_id, "completed" if outcome.failure is None else f"failed: {outcome.failure.message}")

    def _writer(self, file: BinaryIO, opened: OpenedOrder, *, begun: bool) -> LogWriter:
        """The log of this run, with its first line; after a restart, what there is of it."""
        if begun:
            try:
                writer = LogWriter.resume(file, opened.digest, clock=self._workplace.clock.now)
                writer.event("resumed")
            except (LogRefusedError, RuntimeError):
                # Damaged, or never begun: nobody has seen any of it.
                file.seek(0)
                file.truncate()
            else:
                return writer
        writer = LogWriter(file, opened.digest, clock=self._workplace.clock.now)
        order = opened.order
        writer.start({"image": order.image.model_dump(mode="json"), "limits": order.limits.model_dump(mode="json")})
        return writer

    def _folder(self, lease_id: UUID) -> Path:
        return self._home.work_folder / str(lease_id)
