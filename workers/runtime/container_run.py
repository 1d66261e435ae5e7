"""One container of a Docker engine, from its start, or from where an earlier process left it, to its end.

A run has six threads beside the caller's: they read output, wait for the end, look at the outputs folder and its disk, look for outputs
without a name, follow the kernel's counters, and take samples. They report to `ContainerRun`; the caller's thread kills, and those that
look at outputs. Nothing here creates or removes a container.

Whose doing an end was: ours when we killed it; the job's when the container ended by itself; else the run is lost (RunLostError). See
workers/runtime/container_history.py.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import docker
import psutil
from docker.errors import APIError
from requests.exceptions import ReadTimeout, RequestException
from urllib3.exceptions import ReadTimeoutError

from workers.folders import folder_remove
from workers.protocol.messages.receipt import Failure, FailureCode
from workers.runtime.cgroups import Cgroup, CgroupReading, cgroup_of, cgroup_usual
from workers.runtime.container_history import end_history, seconds_running, time_of
from workers.runtime.docker_images import ENGINE_ERRORS
from workers.runtime.gpu_samples import gpu_samples
from workers.runtime.interface import OutputStream, RunLostError, RunResult, RunSink, RunSpec, RuntimeFailureError
from workers.runtime.oom_kills import OomKills
from workers.runtime.output_watch import PAUSE_SECONDS_MIN, excess_of, floor_failure, folder_measure, look_pause_seconds, outputs_measure
from workers.runtime.usage import UsageMeter

log = logging.getLogger(__name__)

OUTPUT_BYTES_MAX: Final = 64 * 2**20
"""Container output handed to the sink; more is read, so that the container never blocks, and counted."""

_LOOK_SECONDS: Final = 0.1
_SAMPLE_SECONDS_MAX: Final = 1.0
_COUNTERS_SECONDS: Final = (0.005, 0.1)
_WAIT_SECONDS: Final = 3600
_END_SECONDS: Final = 10.0
_FILE_SIZE_EXIT_CODE: Final = 128 + 25  # SIGXFSZ, by the fsize limit
_STREAMS: Final[tuple[OutputStream, ...]] = ("stdout", "stderr")
_NOT_STARTABLE: Final = (126, 127)
_FILLING: Final = frozenset({FailureCode.LIMIT_DISK, FailureCode.LIMIT_OUTPUT, FailureCode.HOST_DISK})
_DISK_FULL_BYTES: Final = 16 * 2**20
_DISK_FULL_INODES: Final = 16


class ContainerRun:
    """One container, followed once: by `start_and_follow`, or by `follow` when it runs already. `sampler` may outlive that by a second."""

    def __init__(
        self,
        client: docker.APIClient,
        container_id: str,
        spec: RunSpec,
        sink: RunSink,
        cancel: threading.Event,
        *,
        disk_floor_bytes: int = 0,
    ) -> None:
        """`disk_floor_bytes`: the container is ended when the disk under its outputs has less left."""
        self._client = client
        self._id = container_id
        self._spec = spec
        self._sink = sink
        self._cancel = cancel
        self._disk_floor_bytes = disk_floor_bytes
        self._sink_lock = threading.Lock()
        self.sampler: threading.Thread | None = None
        self.limits_beyond: frozenset[str] = frozenset()
        """Limits that the kernel does not hold the container to, though the engine was told to set them."""
        self._cgroup: Cgroup | None = None
        self._running = threading.Event()
        self._ended = threading.Event()
        self._lost: str | None = None
        self._killed_at: float | None = None
        self._failure: Failure | None = None
        self._failure_lock = threading.Lock()
        self._meter = UsageMeter()
        self._counters: CgroupReading | None = None
        self._oom_kills = OomKills()
        self._output_bytes = 0
        self._dropped_bytes = 0
        self._folder_bytes = 0
        self._begun = time.monotonic()
        self._started_at = datetime.now(UTC)

    def start_and_follow(self) -> RunResult:
        """Start the created container. Raises RuntimeFailureError (`host_engine`, nothing ran), RunLostError."""
        # Attached before the start, so that no output is missed; the engine keeps none.
        try:
            output = self._attach()
        except ENGINE_ERRORS as error:
            return self._not_started(error)
        try:
            self._started_at, self._begun = datetime.now(UTC), time.monotonic()
            follower = self._thread(self._counters_follow)
            try:
                self._client.start(self._id)
            except ENGINE_ERRORS as error:
                self._ended.set()
                follower.join(_END_SECONDS)
                return self._not_started(error)
            self._running.set()
            self._sink.on_start(adopted=False)
            return self._follow(output, follower)
        finally:
            self._ended.set()
            _close(output)

    def follow(self, state: dict[str, Any]) -> RunResult:
        """Follow a container that runs, whose inspected `State` this is. Raises RunLostError."""
        elapsed_seconds = seconds_running(state, self._id)
        self._begun = time.monotonic() - elapsed_seconds
        self._started_at = datetime.now(UTC) - timedelta(seconds=elapsed_seconds)
        self._running.set()
        try:
            output = self._attach()
        except ENGINE_ERRORS as error:
            raise RunLostError(f"The container engine was lost as a run was taken up again: {type(error).__name__}.") from error
        try:
            self._sink.on_start(adopted=True)
            return self._follow(output, self._thread(self._counters_follow))
        finally:
            self._ended.set()
            _close(output)

    def conclude_ended(self, state: dict[str, Any]) -> RunResult | None:
        """The result of a container that ended while nobody followed it, or None where its end may not have been its own.

        Raises RunLostError.
        """
        started, finished = (time_of(state, name) for name in ("StartedAt", "FinishedAt"))
        if started is None or finished is None:
            return None
        try:
            history = end_history(self._client, self._id, state, is_past=True)
        except ENGINE_ERRORS as error:
            raise RunLostError(f"The container engine was lost as it was asked how a run had ended: {type(error).__name__}.") from error
        if not history.is_own:
            return None
        self._started_at = started.astimezone(UTC)
        return self._conclude(max(0.0, (finished - started).total_seconds()))

    def _attach(self) -> Any:
        return self._client.attach(self._id, stdout=True, stderr=True, stream=True, demux=True)

    def _follow(self, output: Any, counters: threading.Thread) -> RunResult:
        watching = (self._end_await, self._outputs_watch, self._unnamed_watch)
        awaited = [self._thread(self._output_read, output), *(self._thread(work) for work in watching)]
        # Not awaited with the run: the engine's answer may be a second away, and the counters know more by then.
        self.sampler = self._thread(self._samples_take)
        self._watch()
        wall_seconds = time.monotonic() - self._begun
        for thread in (*awaited, counters):
            thread.join(_END_SECONDS)
        return self._conclude(wall_seconds)

    def _watch(self) -> None:
        """Until the container has ended, killing it when it must."""
        while not self._ended.wait(_LOOK_SECONDS):
            if self._cancel.is_set():
                self._fail(FailureCode.CANCELLED, "Cancelled while the container ran.")
            elif time.monotonic() - self._begun > self._spec.limits.wall_seconds:
                self._wall_fail()
            if self._failure is None:
                continue
            if self._killed_at is not None and time.monotonic() - self._killed_at > _END_SECONDS:
                log.error("container %s does not end after being killed; going on without it", self._spec.name)
                self._ended.set()
                return
            self._killed_at = self._killed_at or time.monotonic()
            self._kill()

    def _wall_fail(self) -> None:
        is_paused = False
        with suppress(*ENGINE_ERRORS):
            is_paused = bool(self._client.inspect_container(self._id)["State"].get("Paused"))
        if is_paused:  # by somebody on the host: no fault of the job's
            self._fail(FailureCode.HOST_GAVE_UP, "The container was paused on the host until its time was over.")
        else:
            self._fail(FailureCode.LIMIT_WALL, f"The container ran longer than its {self._spec.limits.wall_seconds} s.")

    def _kill(self) -> None:
        with suppress(*ENGINE_ERRORS):  # it may have ended meanwhile; an engine that is away is noticed by the thread that waits
            self._client.kill(self._id, "SIGKILL")

    # --- how it ended -------------------------------------------------------------------------------------------------

    def _conclude(self, wall_seconds: float) -> RunResult:
        exit_code = None
        if self._failure is None:
            exit_code = self._exit_code_judge()
        if self._failure is not None and self._failure.code in _FILLING:
            folder_remove(self._spec.outputs_dir)  # at once: nobody wants them, and the journal, too, needs the disk
        result = RunResult(
            exit_code=exit_code,
            failure=self._failure,
            usage=self._meter.usage(wall_seconds=wall_seconds, gpus=len(self._spec.gpus), counters=self._counters),
            started_at=self._started_at,
            # Not the clock again: one that was set back meanwhile would have the run end before it began, which no portal takes.
            finished_at=self._started_at + timedelta(seconds=wall_seconds),
            output_dropped_bytes=self._dropped_bytes,
        )
        with self._sink_lock:
            self._sink.on_end(result)
        return result

    def _exit_code_judge(self) -> int:
        """The exit code of a container that nobody here killed; `_failure` is set if it is one. Raises RunLostError."""
        if self._lost is not None:
            raise RunLostError(self._lost)
        try:
            state = self._client.inspect_container(self._id)["State"]
            history = end_history(self._client, self._id, state)
            if state["Status"] != "exited" or history.is_signalled:
                raise RunLostError("The container was stopped by the engine, or by somebody on the host.")
        except ENGINE_ERRORS as error:
            raise RunLostError(f"The container engine was lost as the run ended: {type(error).__name__}.") from error
        exit_code = int(state["ExitCode"])
        if exit_code != 0 and self._oom_kills.by_machine:
            raise RunLostError(
                "This machine ran out of memory, and its kernel ended what ran in the container, within the container's limit.",
                is_over=True,
            )
        is_out_of_memory = self._oom_kills.found or history.is_out_of_memory or bool(state.get("OOMKilled"))
        self._exit_judge(exit_code, is_out_of_memory=is_out_of_memory)
        return exit_code

    def _exit_judge(self, exit_code: int, *, is_out_of_memory: bool) -> None:
        excess = excess_of(folder_measure(self._spec.outputs_dir), self._spec.limits)
        if excess is not None:
            self._fail(excess.code, excess.message)
        elif exit_code == 0:
            return
        elif is_out_of_memory:
            self._fail(FailureCode.LIMIT_MEMORY, f"The container needed more than its {self._spec.limits.memory_bytes} bytes of memory.")
        elif exit_code == _FILE_SIZE_EXIT_CODE:
            self._fail(FailureCode.LIMIT_OUTPUT, "The container wrote a file larger than its outputs may be.")
        elif _is_disk_full(self._spec.outputs_dir):
            self._fail(FailureCode.HOST_DISK, "The host's disk was full when the container failed.")
        else:
            self._fail(FailureCode.EXIT_NONZERO, f"The container ended with exit code {exit_code}.")

    def _not_started(self, error: Exception) -> RunResult:
        """A command that the image lacks is the job's fault; anything else is raised as ours."""
        exit_code = None
        with suppress(*ENGINE_ERRORS):
            exit_code = int(self._client.inspect_container(self._id)["State"]["ExitCode"])
        if not isinstance(error, APIError) or exit_code not in _NOT_STARTABLE:
            raise engine_failure("can't start the container", error) from error
        command = " ".join(self._spec.command[:1]) or "its own command"
        self._fail(FailureCode.EXIT_NONZERO, f"The image can't run {command[:200]!r}: no such program, or it is not executable.")
        usage = self._meter.usage(wall_seconds=time.monotonic() - self._begun, gpus=0)
        result = RunResult(exit_code, self._failure, usage, self._started_at, self._started_at + timedelta(seconds=usage.wall_seconds))
        self._sink.on_end(result)
        return result

    def _fail(self, code: FailureCode, message: str) -> None:
        """The first failure is the one that counts."""
        with self._failure_lock:
            self._failure = self._failure or Failure(code=code, message=message[:1000])

    # --- the threads --------------------------------------------------------------------------------------------------

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(work, *arguments), name=f"{self._spec.name}-{work.__name__}", daemon=True)
        thread.start()
        return thread

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """A thread's fault ends the run instead of vanishing with the thread."""
        try:
            work(*arguments)
        except ENGINE_ERRORS as error:
            # When a container ends, so do its streams, in ways that differ between engines: only the waiting thread's word counts.
            if work == self._end_await:
                self._lost = f"The container engine was lost during the run: {type(error).__name__}."
                self._ended.set()
            elif work in {self._outputs_watch, self._unnamed_watch}:
                log.warning("the outputs of %s can't be watched: %s", self._spec.name, error)
                self._fail(FailureCode.HOST_DISK, f"The host could not watch the outputs: {type(error).__name__}.")
            else:
                log.debug("%s of %s ended: %s", work.__name__, self._spec.name, error)
        except Exception:
            log.exception("a fault of this software while %s ran", self._spec.name)
            self._fail(FailureCode.HOST_ERROR, "The host's software failed while the container ran.")

    def _output_read(self, output: Any) -> None:
        for pair in output:
            for stream, data in zip(_STREAMS, pair, strict=True):
                if not data:
                    continue
                kept = data[: max(0, OUTPUT_BYTES_MAX - self._output_bytes)]
                self._output_bytes += len(data)
                self._dropped_bytes += len(data) - len(kept)
                if kept:
                    with self._sink_lock:
                        self._sunk(self._sink.on_output, stream, kept)

    def _outputs_watch(self) -> None:
        """By what is in the folder alone, which no number of processes makes slower to look at."""
        due = 0.0
        while not self._ended.wait(PAUSE_SECONDS_MIN):
            excess = None
            if (begun := time.monotonic()) >= due:
                size = folder_measure(self._spec.outputs_dir)
                self._folder_bytes = size.content_bytes
                excess = excess_of(size, self._spec.limits)
                now = time.monotonic()
                due = now + look_pause_seconds(now - begun) - PAUSE_SECONDS_MIN
            excess = excess or floor_failure(self._spec.outputs_dir, self._disk_floor_bytes)
            if excess is not None:
                self._excess_end(excess)
                return

    def _unnamed_watch(self) -> None:
        """By all that takes disk: what processes hold without a name, too."""
        pause_seconds = look_pause_seconds(0)
        while not self._ended.wait(pause_seconds):
            begun = time.monotonic()
            excess = excess_of(outputs_measure(self._spec.outputs_dir, self._cgroup.pids() if self._cgroup else ()), self._spec.limits)
            if excess is not None:
                self._excess_end(excess)
                return
            pause_seconds = look_pause_seconds(time.monotonic() - begun)

    def _excess_end(self, excess: Failure) -> None:
        self._fail(excess.code, excess.message)
        self._kill()  # here too: the disk fills while another thread gets to know

    def _counters_follow(self) -> None:
        """From before the start, since the counters go with the container: the last reading misses at most 0.1 s, of a short run less."""
        shortest_seconds, longest_seconds = _COUNTERS_SECONDS
        cgroup: Cgroup | None = None
        while cgroup is None and not self._ended.is_set():
            running = self._running.wait(shortest_seconds)
            cgroup = cgroup_usual(self._id)
            if cgroup is None and running:
                cgroup = cgroup_of(int(self._client.inspect_container(self._id)["State"].get("Pid") or 0), self._id)
                break
        self._cgroup = cgroup
        is_checked = False
        while cgroup is not None:
            if not is_checked and self._running.is_set():
                self._limits_check(cgroup)
                is_checked = True
            self._oom_kills.look(cgroup)
            self._counters = cgroup.read() or self._counters
            elapsed_seconds = time.monotonic() - self._begun
            if self._ended.wait(min(longest_seconds, max(shortest_seconds, elapsed_seconds / 20))):
                self._oom_kills.look(cgroup)
                return

    def _limits_check(self, cgroup: Cgroup) -> None:
        """End the run if the kernel holds a started container to less than the engine was told to set."""
        beyond = cgroup.limits().beyond(self._spec.limits, swap_exists=psutil.swap_memory().total > 0)
        if beyond:
            self.limits_beyond = frozenset(beyond)
            found = ", ".join(f"{name} at {value:g}" for name, value in beyond.items())
            log.error("the container engine did not set the limits that it was told: %s has %s", self._spec.name, found)
            self._fail(
                FailureCode.HOST_REFUSED,
                f"This host's engine took limits ({', '.join(beyond)}) and did not set them, so the container was stopped.",
            )

    def _samples_take(self) -> None:
        # Soon at first, so that short runs are measured too. The engine itself may take a second to answer.
        pause_seconds = _LOOK_SECONDS
        gpus = gpu_samples(self._spec.gpus)
        while not self._ended.wait(pause_seconds):
            pause_seconds = min(_SAMPLE_SECONDS_MAX, pause_seconds * 1.5)
            stats, gpus_now = self._client.stats(self._id, stream=False, one_shot=True), next(gpus)
            elapsed_seconds = time.monotonic() - self._begun
            with self._sink_lock:
                # Nobody waits for this thread: what it learns after the end is dropped.
                if self._ended.is_set():
                    return
                sample = self._meter.sample(
                    stats, at=datetime.now(UTC), elapsed_seconds=elapsed_seconds, output_bytes=self._folder_bytes, gpus=gpus_now
                )
                if sample is not None:
                    self._sunk(self._sink.on_sample, sample)

    def _sunk(self, take: Callable[..., None], *arguments: Any) -> None:
        """Calls the sink. Its OSError is the host's disk, not the engine's connection, whose end is no failure."""
        try:
            take(*arguments)
        except OSError as error:
            self._fail(FailureCode.HOST_DISK, f"The host could not write the run's log: {error.strerror or type(error).__name__}.")
            raise

    def _end_await(self) -> None:
        while not self._ended.is_set():
            # Waiting again is harmless: the engine answers at once for a container that has ended.
            try:
                self._client.wait(self._id, timeout=_WAIT_SECONDS)
            except RequestException as error:
                # The engine sends its headers at once, so the time runs out while the body is read, and comes as a lost connection.
                if not isinstance(error, ReadTimeout) and not any(isinstance(one, ReadTimeoutError) for one in error.args):
                    raise
            else:
                self._ended.set()


def engine_failure(what: str, error: Exception) -> RuntimeFailureError:
    """A failure of the engine's. Its own words may name paths of the host: they go to the host's log, not into the receipt."""
    # As text: a kept log record would keep the error, and through its traceback the connection.
    log.warning("the container engine %s: %s", what, f"{error}")
    return RuntimeFailureError(FailureCode.HOST_ENGINE, f"The container engine {what} ({type(error).__name__}).")


def _close(output: Any) -> None:
    with suppress(*ENGINE_ERRORS, ValueError):
        output.close()
    # The SDK closes the socket, but not the file over it, which then lives until it is collected.
    output._response.close()


def _is_disk_full(folder: Path) -> bool:
    """Whether there is so little left that a container's write may have failed for it, whatever the container made of that."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _DISK_FULL_BYTES or (disk.f_files > 0 and disk.f_favail < _DISK_FULL_INODES)
