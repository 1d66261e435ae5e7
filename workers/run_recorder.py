"""Where a run's output, samples and end go: the compute log, the lease's progress, and the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter

from workers.journal import Journal, JournalError
from workers.progress import ProgressReader
from workers.protocol.compute_log import LogWriter
from workers.protocol.messages.receipt import Usage
from workers.runs import Run
from workers.runtime.interface import OutputStream, RunResult, Sample

log = logging.getLogger(__name__)

RESULT: Final = TypeAdapter(RunResult)
"""Reads and writes the journal's `result`."""


class RunRecorder:
    """The sink of one container (workers/runtime/interface.py, RunSink). `changed` is called when the portal should hear of progress."""

    def __init__(self, run: Run, writer: LogWriter, journal: Journal, changed: Callable[[], None]) -> None:
        self._run = run
        self._writer = writer
        self._journal = journal
        self._changed = changed
        self._reader = ProgressReader()

    def on_start(self, *, adopted: bool) -> None:
        self._writer.event("container_adopted" if adopted else "container_started")

    def on_output(self, stream: OutputStream, data: bytes) -> None:
        self._writer.output(stream, data)
        if stream == "stdout" and (found := self._reader.feed(data)) is not None:
            self._run.progress, self._run.message = found.fraction, found.stage
            self._changed()

    def on_sample(self, sample: Sample) -> None:
        self._run.cpu_percent, self._run.memory_bytes = sample.cpu_percent, sample.memory_bytes
        self._writer.sample(sample.details())

    def on_end(self, result: RunResult) -> None:
        result = replace(result, usage=_usage_at_least(result.usage, self._writer.last_sample))
        # In the process too: should the journal's disk be full, the work is not lost as long as this process lives.
        self._run.result = result
        try:
            self._journal.lease_ran(self._run.lease_id, RESULT.dump_json(result).decode())
        except JournalError as error:
            log.warning("lease %s: %s", self._run.lease_id, error)


def _usage_at_least(usage: Usage, sample: Mapping[str, Any] | None) -> Usage:
    """`usage`, but no less than the newest sample in the log: of a container that ended while nobody looked, the counters are gone."""
    if sample is None:
        return usage
    return usage.model_copy(update={name: max(getattr(usage, name), sample.get(name, 0)) for name in ("cpu_seconds", "memory_peak_bytes")})
