"""One order, from its acceptance to an outcome: check, fetch, pull, run, archive. However it goes, it ends in a `RunOutcome`.

1. What a crash must not lose is in the journal before it matters: `launch` before a container is started, `result` before it is removed.
2. So a second process, or this one after a local fault, goes on where the first stopped: with the result that is known, else with the
   container that is still there (`Runtime.adopt`), else from the beginning. Outputs are a container's alone: a new one starts with none.
3. A run that was lost (the engine stopped, the machine lost its power) is no failure of anybody's: it is run again, at most
   LAUNCHES_MAX times in all, after waiting for the engine as long as the order's deadline allows.
4. A disk that is full while a finished run is packed is waited out like that too: the work is done. Before, it is a reason to give the
   order back (`host_disk`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from workers.backoff import Backoff
from workers.clock import PortalClock
from workers.disk_full import is_disk_full
from workers.folders import folder_remove
from workers.home import NodeIdentity
from workers.inputs import InputCache, InputCancelledError, InputFailedError, inputs_place
from workers.journal import Journal, JournalError, LeaseRow
from workers.orders import OrderRefusedError, order_check
from workers.portal import PortalClient
from workers.protocol.archives import ArchiveInfo, ArchiveLimits, OutputRefusedError, archive_write
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import Digest
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import Failure, FailureCode
from workers.receipts import ARCHIVE_FILE, RunOutcome, file_sync
from workers.resources import Resources, ResourcesExhaustedError
from workers.run_recorder import RESULT, RunRecorder
from workers.runs import Run, Runs
from workers.runtime.interface import PullProgress, RunLostError, RunResult, RunSpec, Runtime, RuntimeFailureError

log = logging.getLogger(__name__)

LAUNCHES_MAX: Final = 5
"""Containers that one order may start here: a job that takes its host down with it must not do so for ever."""


class Launch(BaseModel):
    """What a container is started with, beside the order: kept in the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: Digest
    gpus: tuple[Gpu, ...] = ()


class _RunFailedError(Exception):
    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message[:1000])


@dataclass(frozen=True)
class Workplace:
    """What all runs of a host share."""

    identity: NodeIdentity
    journal: Journal
    runtime: Runtime
    resources: Resources
    runs: Runs
    cache: InputCache
    clock: PortalClock


class OrderRun:
    """One order in one folder. Made for one call of `outcome`."""

    def __init__(
        self, workplace: Workplace, *, row: LeaseRow, order: Order, run: Run, portal: PortalClient, writer: LogWriter, folder: Path
    ) -> None:
        self._workplace = workplace
        self._order = order
        self._run = run
        self._portal = portal
        self._writer = writer
        self._folder = folder
        self._launches = row.launches
        self._launch = None if row.launch is None else Launch.model_validate_json(row.launch)
        self._result = run.result or (None if row.result is None else RESULT.validate_json(row.result))

    def outcome(self) -> RunOutcome:
        """Carry the order out; every way in which it can fail becomes the outcome's failure.

        Raises JournalError, and OSError for a disk that is full: call again, with the row as it is then.
        """
        clock = self._workplace.clock
        began = clock.now()
        failure: Failure | None = None
        archive: ArchiveInfo | None = None
        try:
            result = self._result = self._result or self._run_to_its_end()
            self._writer.output_end()
            self._writer.event("container_ended", {"exit_code": result.exit_code})
            archive = self._archive(result)
        except _RunFailedError as error:
            failure = error.failure
        except RuntimeFailureError as error:
            failure = error.failure
        except OSError as error:
            is_done = self._result is not None or self._run.result is not None
            if is_done and is_disk_full(error) and not self._run.cancel.is_set():
                raise
            failure = _disk_failure(error)
        except JournalError:
            raise
        except Exception as error:
            log.exception("lease %s: a fault of this software", self._run.lease_id)
            failure = Failure(code=FailureCode.HOST_ERROR, message=f"A fault of the host's software ({type(error).__name__}).")
        if failure is not None:
            # A cancelled run fails in many ways; why it was cancelled is what counts.
            failure = self._run.cancelled or failure
        image_id = self._launch.image_id if self._launch else None
        ran = self._result or self._run.result
        if ran is None:
            return RunOutcome(began, clock.now(), image_id=image_id, failure=failure)
        started_at, finished_at = clock.shift(ran.started_at), clock.shift(ran.finished_at)
        return RunOutcome(started_at, finished_at, ran.usage, ran.exit_code, image_id, archive=archive, failure=failure)

    # --- the container ------------------------------------------------------------------------------------------------

    def _run_to_its_end(self) -> RunResult:
        """The result of a container that ended by itself or by a limit, after as many lost ones as may be."""
        backoff = Backoff(longest_seconds=10)
        while True:
            was_cancelled = self._run.cancel.is_set()
            try:
                return self._adopted() or self._launched()
            except RuntimeFailureError as error:
                is_lost = isinstance(error, RunLostError)
                if not is_lost and (error.failure.code is not FailureCode.HOST_ENGINE or self._workplace.runtime.alive()):
                    raise
                log.warning("lease %s: %s", self._run.lease_id, error)
                self._writer.event("engine_lost", {"message": str(error)})
            if was_cancelled:
                self._cancel_check()  # whoever was to end it knew, and could not
            self._run.cancel.wait(backoff.failed())  # an engine may answer, and go on failing at this
            self._engine_await()

    def _adopted(self) -> RunResult | None:
        """The result of a container that was started before, if it is still there and can be believed. One of a cancelled run is ended."""
        if self._launch is None:
            return None
        self._stage(Stage.RUNNING)
        return self._workplace.runtime.adopt(self._spec(self._launch), self._sink(), self._run.cancel)

    def _launched(self) -> RunResult:
        if self._launches >= LAUNCHES_MAX:
            raise _RunFailedError(
                FailureCode.HOST_GAVE_UP, f"The run was lost {self._launches} times, as engine, machine or worker stopped."
            )
        self._launch = self._prepare()
        self._cancel_check()
        self._stage(Stage.RUNNING)
        self._workplace.journal.lease_launched(self._run.lease_id, self._launch.model_dump_json())
        self._launches += 1
        return self._workplace.runtime.run(self._spec(self._launch), self._sink(), self._run.cancel)

    def _engine_await(self) -> None:
        backoff = Backoff(longest_seconds=10)
        while not self._workplace.runtime.alive():
            self._run.cancel.wait(backoff.failed())
            self._cancel_check()

    def _spec(self, launch: Launch) -> RunSpec:
        order = self._order
        return RunSpec(
            name=container_name(order.lease_id),
            labels={"nexapod.home": str(self._workplace.identity.node_id), "nexapod.lease": str(order.lease_id)},
            image_id=launch.image_id,
            command=order.command,
            environment=order.environment,
            inputs_dir=self._folder / "inputs",
            outputs_dir=self._folder / "outputs",
            limits=order.limits,
            gpus=launch.gpus,
        )

    # --- before and after ---------------------------------------------------------------------------------------------

    def _prepare(self) -> Launch:
        """Check the order, make its folders anew, and fetch what it needs."""
        workplace, order = self._workplace, self._order
        self._cancel_check()
        self._stage(Stage.FETCHING)
        # After a restart the portal may not have said yet what time it is; the deadline is enforced when it has.
        now = workplace.clock.now() if workplace.clock.is_confirmed else order.issued_at
        try:
            order_check(
                order,
                identity=workplace.identity,
                caps=workplace.resources.caps,
                now=now,
            )
            gpus = workplace.resources.reserve(order.lease_id, order.limits)
        except (OrderRefusedError, ResourcesExhaustedError) as error:
            raise _RunFailedError(FailureCode.HOST_REFUSED, str(error)) from error
        inputs = self._folder / "inputs"
        for made in (inputs, self._folder / "outputs"):
            if not folder_remove(made):
                message = "What an earlier run of this order left can't be removed from the host's disk."
                raise _RunFailedError(FailureCode.HOST_DISK, message)
            made.mkdir(mode=0o755)
        self._inputs_place(inputs)
        for wanted in order.inputs:
            self._writer.event("input", {"path": wanted.path, "digest": wanted.digest, "size_bytes": wanted.size_bytes})
        self._stage(Stage.PULLING)

        def pulling(progress: PullProgress) -> None:
            self._run.progress = min(1.0, progress.done_bytes / progress.total_bytes) if progress.total_bytes else None
            self._run.message = progress.status[:200]

        seconds = max(1.0, (order.deadline_at - workplace.clock.now()).total_seconds())
        image_id = workplace.runtime.image_ensure(order.image, cancel=self._run.cancel, report=pulling, timeout_seconds=seconds)
        self._writer.event("image", {"image_id": image_id})
        return Launch(image_id=image_id, gpus=gpus)

    def _inputs_place(self, folder: Path) -> None:
        run = self._run
        try:
            inputs_place(self._order.inputs, folder, cache=self._workplace.cache, portal=self._portal, cancel=run.cancel, show=run.show)
        except InputFailedError as error:
            raise _RunFailedError(error.code, str(error)) from error
        except InputCancelledError:
            """As when it was cancelled before it began."""
        self._cancel_check()

    def _archive(self, result: RunResult) -> ArchiveInfo:
        if result.failure is not None:
            raise _RunFailedError(result.failure.code, result.failure.message)
        self._stage(Stage.ARCHIVING)
        order, outputs = self._order, self._folder / "outputs"
        with (self._folder / ARCHIVE_FILE).open("w+b") as file:
            try:
                archive = archive_write(outputs, file, limits=ArchiveLimits(content_bytes=order.limits.output_bytes))
                file_sync(file)
            except OutputRefusedError as error:
                raise _RunFailedError(FailureCode.OUTPUT_REFUSED, str(error)) from error
            except PermissionError as error:
                # The archive is open already, so it is an output: the container kept it from the host's user, who isn't root here.
                message = "Outputs must be readable by the host's user; the container left a file or folder that is not. Set its mode."
                raise _RunFailedError(FailureCode.OUTPUT_REFUSED, message) from error
        found = {file.path for file in archive.manifest.files}
        missing = sorted(output.path for output in order.outputs if output.required and output.path not in found)
        if missing:
            raise _RunFailedError(FailureCode.OUTPUT_MISSING, f"The container did not leave {', '.join(missing[:10])} in its outputs.")
        self._cancel_check()  # an archive takes its time, and may be for nobody by now
        return archive

    # --- small things -------------------------------------------------------------------------------------------------

    def _sink(self) -> RunRecorder:
        return RunRecorder(self._run, self._writer, self._workplace.journal, self._workplace.runs.changed)

    def _stage(self, stage: Stage) -> None:
        self._run.stage_enter(stage)
        self._workplace.journal.lease_progress(self._run.lease_id, stage=stage, progress=None, message="")
        self._workplace.runs.changed()

    def _cancel_check(self) -> None:
        if self._run.cancel.is_set():
            raise _RunFailedError(FailureCode.CANCELLED, "Cancelled while no container ran.")


def container_name(lease_id: UUID) -> str:
    """The name of the container that carries out a lease: one at a time, found again by it."""
    return f"nexapod-{lease_id}"


def _disk_failure(error: OSError) -> Failure:
    is_full = is_disk_full(error)
    return Failure(
        code=FailureCode.HOST_DISK,
        message=f"The host's disk {'is full' if is_full else 'failed'}: {error.strerror or type(error).__name__}.",
    )
