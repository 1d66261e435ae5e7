"""The leases that this worker holds right now, as its threads see them: how far each has come, and whether it must stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from workers.protocol.messages.exchange import LeaseReport, Stage
from workers.protocol.messages.receipt import Failure, FailureCode
from workers.runtime.interface import RunResult


@dataclass
class Run:
    """One lease. Threads write single fields; `cancel` is what the runtime watches, `cancelled` says why it was set."""

    lease_id: UUID
    deadline_at: datetime
    began: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.ACCEPTED
    progress: float | None = None
    message: str = ""
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    cancelled: Failure | None = None
    result: RunResult | None = None
    """What the container came to, once it has ended."""

    def stage_enter(self, stage: Stage) -> None:
        """Begin a stage, whose progress is its own."""
        self.stage, self.progress, self.message = stage, None, ""

    def show(self, progress: float | None, message: str) -> None:
        """Say how far the present stage has come, for the portal and for `nexa status`."""
        self.progress, self.message = progress, message

    def report(self) -> LeaseReport:
        """This lease, for an exchange."""
        return LeaseReport(
            lease_id=self.lease_id,
            stage=self.stage,
            progress=self.progress,
            message=self.message[:200],
            elapsed_seconds=max(0.0, time.monotonic() - self.began),
            cpu_percent=self.cpu_percent,
            memory_bytes=self.memory_bytes,
        )


class Runs:
    """All of them. Thread-safe; `changed` is called, without a lock, when a run has begun, come further or ended."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self._runs: dict[UUID, Run] = {}
        self._mutex = threading.Lock()

    def add(self, lease_id: UUID, *, deadline_at: datetime) -> Run:
        """Begin to report a lease; the same one again changes nothing."""
        with self._mutex:
            return self._runs.setdefault(lease_id, Run(lease_id, deadline_at))

    def remove(self, lease_id: UUID) -> None:
        """Stop reporting a lease."""
        with self._mutex:
            self._runs.pop(lease_id, None)
        self.changed()

    def find(self, lease_id: UUID) -> Run | None:
        """The lease, if it is here."""
        return self._runs.get(lease_id)

    def stages(self) -> dict[UUID, Stage]:
        """Where every lease stands."""
        with self._mutex:
            return {run.lease_id: run.stage for run in self._runs.values()}

    def reports(self) -> tuple[LeaseReport, ...]:
        """Every lease, for an exchange."""
        with self._mutex:
            return tuple(run.report() for run in self._runs.values())

    def cancel(self, lease_id: UUID, code: FailureCode, reason: str) -> None:
        """Stop a run, if it is here and not being stopped already."""
        with self._mutex:
            run = self._runs.get(lease_id)
            if run is not None and run.cancelled is None:
                run.cancelled = Failure(code=code, message=reason)
                run.cancel.set()

    def cancel_all(self, code: FailureCode, reason: str) -> None:
        """Stop every run."""
        with self._mutex:
            lease_ids = list(self._runs)
        for lease_id in lease_ids:
            self.cancel(lease_id, code, reason)

    def deadlines_enforce(self, now: datetime) -> None:
        """Stop runs whose deadline has passed: nothing that they bring can count any more."""
        with self._mutex:
            late = [run for run in self._runs.values() if run.deadline_at <= now and run.stage is not Stage.UPLOADING]
        for run in late:
            self.cancel(run.lease_id, FailureCode.HOST_GAVE_UP, f"The order's deadline, {run.deadline_at.isoformat()}, has passed.")

    def __len__(self) -> int:
        return len(self._runs)
