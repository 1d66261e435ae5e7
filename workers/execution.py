"""The life of one order on this host: check, fetch, pull, run, archive, sign, report. However it goes, it ends as a signed receipt.

Where a lease stands is in the journal, so `order_run` can be called for any lease that it holds, once or again after a restart:

1. no receipt, not begun: carry the order out.
2. no receipt, but begun by an earlier process: its container is gone (removed at start), so the receipt says `host_stopped`.
3. a receipt: only reporting is left (see workers/reporting.py).
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from workers.coordinator_pin import CoordinatorPin
from workers.folders import folder_remove
from workers.home import NodeHome, NodeIdentity
from workers.inputs import InputCache, InputCancelledError, InputFailedError
from workers.journal import Journal, JournalError, LeaseRow, UploadRow
from workers.orders import OpenedOrder, OrderRefusedError, order_check
from workers.portal import PortalClient
from workers.progress import ProgressReader
from workers.protocol.archives import ArchiveInfo, ArchiveLimits, OutputRefusedError, archive_write
from workers.protocol.compute_log import LogRefusedError, LogWriter
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.messages import Failure, FailureCode, NodeProfile, Order, OrderInput, Stage
from workers.receipts import RunOutcome, receipt_sign, receipt_size_check
from workers.reporting import Reporter, portal_retry
from workers.resources import Resources, ResourcesExhaustedError
from workers.runs import Run, Runs
from workers.runtime.interface import OutputStream, PullProgress, RunResult, RunSpec, Runtime, RuntimeFailureError, Sample

log = logging.getLogger(__name__)


class _RunFailedError(Exception):
    def __init__(self, code: FailureCode, message: str, result: RunResult | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message[:1000])
        self.result = result


class Executor:
    """Carries orders out; one call per lease at a time, several leases at once from several threads."""

    def __init__(
        self,
        *,
        home: NodeHome,
        identity: NodeIdentity,
        pin: CoordinatorPin,
        key: PrivateKey,
        profile: NodeProfile,
        journal: Journal,
        runtime: Runtime,
        resources: Resources,
        runs: Runs,
        portal_make: Callable[[], PortalClient],
        give_up: threading.Event,
    ) -> None:
        self._home = home
        self._identity = identity
        self._key = key
        self._pin = pin
        self._profile = profile
        self._journal = journal
        self._runtime = runtime
        self._resources = resources
        self._runs = runs
        self._portal_make = portal_make
        self._give_up = give_up
        self._cache = InputCache(home.cache_folder / "inputs", limit_bytes=resources.caps.disk_bytes // 4)

    def order_run(self, lease_id: UUID) -> None:
        """Bring a lease of the journal to its end; unknown and ended ones are done already. Raises nothing.

        Returns early, with the lease still open in the journal, when the worker stops before the portal has answered.
        """
        portal = self._portal_make()
        try:
            row = self._journal.lease(lease_id)
            if row is None or row.ending is not None:
                return
            opened = self._pin.order_reopen(row.envelope)
            run = self._runs.add(lease_id, deadline_at=opened.order.deadline_at)
            if row.receipt is None:
                self._receipt_make(row, opened, run, portal)
            # What only has to be reported needs no cores.
            self._resources.release(lease_id)
            self._resources.hold_slot(lease_id)
            self._stage(run, Stage.UPLOADING)
            if Reporter(journal=self._journal, portal=portal, give_up=self._give_up).report(lease_id):
                folder_remove(self._folder(lease_id))
        except VerificationError as error:
            # It was checked before it was journaled: the coordinator's key has changed since, or the journal was.
            log.exception("lease %s: its order can't be read any more and is dropped", lease_id)
            self._journal.lease_ended(lease_id, f"dropped: {error.code}")
        except (JournalError, OSError):
            log.exception("lease %s: this host can't write what it must; the lease stays open for the next start", lease_id)
        except Exception:
            log.exception("lease %s: a fault of this software; the lease stays open for the next start", lease_id)
        finally:
            portal.close()
            self._resources.release(lease_id)
            self._runs.remove(lease_id)

    # --- from order to receipt ----------------------------------------------------------------------------------------

    def _receipt_make(self, row: LeaseRow, opened: OpenedOrder, run: Run, portal: PortalClient) -> None:
        folder = self._folder(row.lease_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        log_path = folder / "log.jsonl"
        with log_path.open("r+b" if row.started and log_path.exists() else "w+b") as file:
            writer = self._writer(file, opened, begun=row.started)
            if row.started:
                now = datetime.now(UTC)
                failure = Failure(code=FailureCode.HOST_STOPPED, message="The worker was stopped while it carried the order out.")
                outcome = RunOutcome(started_at=row.accepted_at, finished_at=now, failure=failure)
            else:
                self._journal.lease_started(row.lease_id)
                outcome = self._outcome(opened, run, portal, writer, folder)
            reference = writer.end(
                {
                    "outcome": "completed" if outcome.failure is None else "failed",
                    "exit_code": outcome.exit_code,
                    "failure": None if outcome.failure is None else outcome.failure.model_dump(mode="json"),
                }
            )
        receipt = receipt_sign(
            opened=opened,
            outcome=outcome,
            log=reference,
            key=self._key,
            benchmark_gflops=self._profile.benchmark_gflops,
            engine=f"{self._profile.engine.name} {self._profile.engine.version}",
        )
        uploads = [UploadRow(row.lease_id, reference.digest, reference.size_bytes, log_path, None, 0)]
        if outcome.archive is not None:
            archive = outcome.archive
            uploads.append(UploadRow(row.lease_id, archive.digest, archive.size_bytes, folder / "archive.tar", None, 0))
        failure_code = None if outcome.failure is None else outcome.failure.code
        self._journal.lease_finished(row.lease_id, receipt=receipt, failure=failure_code, uploads=uploads)
        log.info("lease %s: %s", row.lease_id, "completed" if outcome.failure is None else f"failed: {outcome.failure.message}")

    def _outcome(self, opened: OpenedOrder, run: Run, portal: PortalClient, writer: LogWriter, folder: Path) -> RunOutcome:
        """Carry the order out; every way in which it can fail becomes the outcome's failure."""
        began = datetime.now(UTC)
        result: RunResult | None = None
        image_id: str | None = None
        try:
            spec = self._prepare(opened.order, run, portal, writer, folder)
            image_id = spec.image_id
            result = self._run(spec, run, writer)
            archive = self._archive(opened.order, run, spec.outputs_dir, folder / "archive.tar")
        except _RunFailedError as error:
            result = error.result or result
            failure = error.failure
        except RuntimeFailureError as error:
            failure = error.failure
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            failure = Failure(
                code=FailureCode.HOST_DISK if full else FailureCode.HOST_ERROR,
                message=f"The host's disk {'is full' if full else 'failed'}: {error.strerror or type(error).__name__}.",
            )
        except JournalError:
            raise
        except Exception as error:
            log.exception("lease %s: a fault of this software", run.lease_id)
            failure = Failure(code=FailureCode.HOST_ERROR, message=f"A fault of the host's software ({type(error).__name__}).")
        else:
            return RunOutcome(result.started_at, result.finished_at, result.usage, result.exit_code, image_id, archive)
        # A cancelled run fails in many ways; why it was cancelled is what counts.
        failure = run.cancelled or failure
        if result is None:
            return RunOutcome(began, datetime.now(UTC), image_id=image_id, failure=failure)
        return RunOutcome(result.started_at, result.finished_at, result.usage, result.exit_code, image_id, archive=None, failure=failure)

    def _prepare(self, order: Order, run: Run, portal: PortalClient, writer: LogWriter, folder: Path) -> RunSpec:
        self._cancel_check(run)
        self._stage(run, Stage.FETCHING)
        try:
            order_check(order, identity=self._identity, caps=self._resources.caps, now=datetime.now(UTC))
            gpus = self._resources.reserve(order.lease_id, order.limits)
        except (OrderRefusedError, ResourcesExhaustedError) as error:
            raise _RunFailedError(FailureCode.HOST_REFUSED, str(error)) from error
        inputs, outputs = folder / "inputs", folder / "outputs"
        for made in (inputs, outputs):
            folder_remove(made)
            made.mkdir(mode=0o755)
        for wanted in order.inputs:
            self._input_place(wanted, inputs / wanted.path, run, portal)
            writer.event("input", {"path": wanted.path, "digest": wanted.digest, "size_bytes": wanted.size_bytes})
        self._stage(run, Stage.PULLING)

        def pulling(progress: PullProgress) -> None:
            run.progress = min(1.0, progress.done_bytes / progress.total_bytes) if progress.total_bytes else None
            run.message = progress.status[:200]

        image_id = self._runtime.image_ensure(order.image, cancel=run.cancel, report=pulling)
        writer.event("image", {"image_id": image_id})
        return RunSpec(
            name=f"nexapod-{order.lease_id}",
            labels={"nexapod.home": str(self._identity.node_id), "nexapod.lease": str(order.lease_id)},
            image_id=image_id,
            command=order.command,
            environment=order.environment,
            inputs_dir=inputs,
            outputs_dir=outputs,
            limits=order.limits,
            gpus=gpus,
        )

    def _input_place(self, wanted: OrderInput, target: Path, run: Run, portal: PortalClient) -> None:
        def place() -> None:
            self._cache.place(wanted, target, portal=portal, cancel=run.cancel)

        try:
            portal_retry(place, stop=run.cancel)
        except InputFailedError as error:
            raise _RunFailedError(error.code, str(error)) from error
        except InputCancelledError:
            """As when it was cancelled before it began."""
        self._cancel_check(run)

    def _run(self, spec: RunSpec, run: Run, writer: LogWriter) -> RunResult:
        self._cancel_check(run)
        self._stage(run, Stage.RUNNING)
        result = self._runtime.run(spec, _Sink(run, writer, self._runs.changed), run.cancel)
        if result.failure is not None:
            raise _RunFailedError(result.failure.code, result.failure.message, result)
        if result.exit_code != 0:
            raise _RunFailedError(FailureCode.EXIT_NONZERO, f"The container ended with exit code {result.exit_code}.", result)
        return result

    def _archive(self, order: Order, run: Run, outputs: Path, path: Path) -> ArchiveInfo:
        self._stage(run, Stage.ARCHIVING)
        with path.open("w+b") as file:
            try:
                archive = archive_write(outputs, file, limits=ArchiveLimits(content_bytes=order.limits.output_bytes))
                receipt_size_check(archive)
            except OutputRefusedError as error:
                raise _RunFailedError(FailureCode.OUTPUT_REFUSED, str(error)) from error
            except PermissionError as error:
                # The archive is open already, so it is an output: the container kept it from the host's user, who isn't root here.
                message = "Outputs must be readable by the host's user; the container left a file or folder that is not. Set its mode."
                raise _RunFailedError(FailureCode.OUTPUT_REFUSED, message) from error
            except OSError as error:
                message = f"The outputs could not be packed on the host's disk: {error.strerror or type(error).__name__}."
                raise _RunFailedError(FailureCode.HOST_DISK, message) from error
        found = {file.path for file in archive.manifest.files}
        missing = sorted(output.path for output in order.outputs if output.required and output.path not in found)
        if missing:
            raise _RunFailedError(FailureCode.OUTPUT_MISSING, f"The container did not leave {', '.join(missing[:10])} in its outputs.")
        return archive

    # --- small things -------------------------------------------------------------------------------------------------

    def _writer(self, file: BinaryIO, opened: OpenedOrder, *, begun: bool) -> LogWriter:
        """The log of this run, with its first line; after a restart, what there is of it."""
        if begun:
            try:
                writer = LogWriter.resume(file, opened.digest)
                writer.event("worker_restarted")
            except (LogRefusedError, RuntimeError):
                # Damaged, never begun, or ended with a receipt that was never signed: nobody has seen any of it.
                file.seek(0)
                file.truncate()
            else:
                return writer
        writer = LogWriter(file, opened.digest)
        order = opened.order
        writer.start({"image": order.image.model_dump(mode="json"), "limits": order.limits.model_dump(mode="json")})
        return writer

    def _stage(self, run: Run, stage: Stage) -> None:
        run.stage, run.progress, run.message = stage, None, ""
        self._journal.lease_progress(run.lease_id, stage=stage, progress=None, message="")
        self._runs.changed()

    def _cancel_check(self, run: Run) -> None:
        if run.cancel.is_set():
            raise _RunFailedError(FailureCode.CANCELLED, "Cancelled before the container was started.")

    def _folder(self, lease_id: UUID) -> Path:
        return self._home.work_folder / str(lease_id)


class _Sink:
    """Hands a run's output and samples to the compute log, and its progress to the lease."""

    def __init__(self, run: Run, writer: LogWriter, changed: Callable[[], None]) -> None:
        self._run = run
        self._writer = writer
        self._changed = changed
        self._reader = ProgressReader()

    def on_output(self, stream: OutputStream, data: bytes) -> None:
        self._writer.output(stream, data)
        if stream == "stdout" and (found := self._reader.feed(data)) is not None:
            self._run.progress, self._run.message = found.fraction, found.stage
            self._changed()

    def on_sample(self, sample: Sample) -> None:
        self._run.cpu_percent, self._run.memory_bytes = sample.cpu_percent, sample.memory_bytes
        self._writer.sample(
            {
                "elapsed_seconds": sample.elapsed_seconds,
                "cpu_seconds": sample.cpu_seconds,
                "cpu_percent": sample.cpu_percent,
                "memory_bytes": sample.memory_bytes,
                "memory_peak_bytes": sample.memory_peak_bytes,
                "pids": sample.pids,
                "read_bytes": sample.read_bytes,
                "written_bytes": sample.written_bytes,
                "output_bytes": sample.output_bytes,
            }
        )
