"""Runs containers through Docker's API: Docker Engine, or Podman where it enforces what it is told.

One run has five threads beside the caller's: they read output, wait for the end, look at the outputs folder, follow the kernel's
counters, and take samples. They report to `_Run`; the caller's thread alone kills, and always removes the container. A container that
an earlier process left is found by its label (`leftovers_remove`).
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
from docker.errors import APIError, ImageNotFound, NotFound
from docker.utils import kwargs_from_env

from workers.protocol.messages import EngineProfile, Failure, FailureCode, ImageReference
from workers.runtime.cgroups import Cgroup, CgroupReading, cgroup_of, cgroup_usual
from workers.runtime.docker_images import ENGINE_ERRORS, image_present, image_pull
from workers.runtime.docker_profile import AUTO, engine_profile, runtime_choose
from workers.runtime.interface import OutputStream, PullProgress, RunResult, RunSink, RunSpec, RuntimeFailureError
from workers.runtime.output_watch import excess_of, folder_measure, look_pause_seconds, outputs_measure
from workers.runtime.sandbox import CONTAINER_USER, container_arguments, host_config_arguments
from workers.runtime.usage import UsageMeter

log = logging.getLogger(__name__)

OUTPUT_BYTES_MAX: Final = 64 * 2**20
"""Container output handed to the sink; more is read, so that the container never blocks, and counted."""

_LOOK_SECONDS: Final = 0.1
_SAMPLE_SECONDS_MAX: Final = 1.0
_COUNTERS_SECONDS: Final = (0.005, 0.1)
_REQUEST_SECONDS: Final = 60
_END_SECONDS: Final = 10.0
_FILE_SIZE_EXIT_CODE: Final = 128 + 25  # SIGXFSZ, by the fsize limit
_STREAMS: Final[tuple[OutputStream, ...]] = ("stdout", "stderr")
_NOT_STARTABLE: Final = (126, 127)


class DockerRuntime:
    """A Docker engine. Connects at first use, so it can be made while the engine is away."""

    def __init__(self, base_url: str | None = None, *, runtime: str = AUTO) -> None:
        """`base_url` None: as DOCKER_HOST and its companions say, else the local socket. `runtime`: see docker_profile.runtime_choose."""
        self._base_url = base_url
        self._runtime_wanted = runtime
        self._runtime: str | None = None
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._profile: EngineProfile | None = None
        self._limits_beyond: frozenset[str] = frozenset()
        """Limits that the engine said it would set, and did not."""
        self._samplers: list[threading.Thread] = []

    def profile(self) -> EngineProfile:
        client = self._connected()
        try:
            info, version = client.info(), client.version()
        except ENGINE_ERRORS as error:
            raise _engine_failure("can't be asked what it is", error) from error
        self._runtime = runtime_choose(info, self._runtime_wanted)
        told = engine_profile(info, version, swap_bytes=psutil.swap_memory().total, runtime=self._runtime)
        ignored = (*told.limits_ignored, *sorted(self._limits_beyond.difference(told.limits_ignored)))
        self._profile = told.model_copy(update={"limits_ignored": ignored})
        return self._profile

    def image_ensure(
        self,
        image: ImageReference,
        *,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float = 3600.0,
    ) -> str:
        client = self._connected()
        found = image_present(client, image)
        if found is None and image.pull is not None:
            image_pull(client, image.pull, cancel=cancel, report=report, timeout_seconds=timeout_seconds)
            found = image_present(client, image)
        if found is None:
            raise RuntimeFailureError(
                FailureCode.IMAGE_UNAVAILABLE, f"{image.name} ({image.image_id}) is not loaded in this host's engine; load it."
            )
        return found

    def run(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult:
        client = self._connected()
        profile = self._profile or self.profile()
        if profile.limits_ignored:
            ignored = ", ".join(profile.limits_ignored)
            raise RuntimeFailureError(FailureCode.HOST_REFUSED, f"This host's engine would ignore limits ({ignored}), so it runs nothing.")
        user = _folders_prepare(spec, rootless=profile.rootless)
        container_id = self._create(client, spec, user)
        try:
            run = _Run(client, container_id, spec, sink, cancel)
            try:
                return run.result()
            finally:
                self._sampler_keep(run.sampler)
                if run.limits_beyond:
                    self._limits_beyond |= run.limits_beyond
                    self._profile = None
        finally:
            try:
                client.remove_container(container_id, v=True, force=True)
            except NotFound:
                pass
            except ENGINE_ERRORS:
                log.exception("container %s could not be removed; the next start removes it", spec.name)

    def leftovers_remove(self, home_id: str) -> int:
        client = self._connected()
        try:
            found = client.containers(all=True, filters={"label": f"nexapod.home={home_id}"})
            for container in found:
                with suppress(NotFound):
                    client.remove_container(container["Id"], v=True, force=True)
        except ENGINE_ERRORS as error:
            raise _engine_failure("can't be asked for leftovers", error) from error
        return len(found)

    def close(self) -> None:
        """Give connections back, those of the last samples too, which may take a second or two; a later call connects again."""
        with self._lock:
            client, self._client = self._client, None
            samplers, self._samplers = self._samplers, []
        for sampler in samplers:
            sampler.join(_END_SECONDS)
        if client is not None:
            client.close()

    def _sampler_keep(self, sampler: threading.Thread | None) -> None:
        with self._lock:
            self._samplers = [thread for thread in (*self._samplers, sampler) if thread is not None and thread.is_alive()]

    def _connected(self) -> docker.APIClient:
        with self._lock:
            if self._client is None:
                where = {"base_url": self._base_url} if self._base_url else kwargs_from_env()
                try:
                    self._client = docker.APIClient(**where, timeout=_REQUEST_SECONDS, version="auto")
                except ENGINE_ERRORS as error:
                    raise _engine_failure("can't be reached; is it started, and may this user use it?", error) from error
            return self._client

    def _create(self, client: docker.APIClient, spec: RunSpec, user: str) -> str:
        try:
            found = client.inspect_image(spec.image_id)  # type: ignore[no-untyped-call]  # the SDK's decorator hides its type
            volumes = (found["Config"] or {}).get("Volumes") or {}
            host_config = client.create_host_config(**host_config_arguments(spec, volumes=volumes, runtime=self._runtime))
            return str(client.create_container(**container_arguments(spec, user=user), host_config=host_config)["Id"])
        except ImageNotFound as error:
            raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"The image {spec.image_id} is not on this host.") from error
        except ENGINE_ERRORS as error:
            raise _engine_failure("can't create the container", error) from error


class _Run:
    """One container from start to end. Made for one call of `result`."""

    def __init__(self, client: docker.APIClient, container_id: str, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> None:
        self._client = client
        self._id = container_id
        self._spec = spec
        self._sink = sink
        self._cancel = cancel
        self._sink_lock = threading.Lock()
        self.sampler: threading.Thread | None = None
        self.limits_beyond: frozenset[str] = frozenset()
        self._cgroup: Cgroup | None = None
        self._running = threading.Event()
        self._ended = threading.Event()
        self._failure: Failure | None = None
        self._failure_lock = threading.Lock()
        self._meter = UsageMeter()
        self._counters: CgroupReading | None = None
        self._output_bytes = 0
        self._dropped_bytes = 0
        self._folder_bytes = 0
        self._begun = time.monotonic()

    def result(self) -> RunResult:
        started_at = datetime.now(UTC)
        # Attached before the start, so that no output is missed; the engine keeps none.
        try:
            output = self._client.attach(self._id, stdout=True, stderr=True, stream=True, demux=True)
        except ENGINE_ERRORS as error:
            return self._not_started(started_at, error)
        try:
            self._begun = time.monotonic()
            follower = self._thread(self._counters_follow)
            try:
                self._client.start(self._id)
            except ENGINE_ERRORS as error:
                return self._not_started(started_at, error)
            self._running.set()
            return self._started(started_at, output)
        finally:
            self._ended.set()
            follower.join(_END_SECONDS)
            with suppress(*ENGINE_ERRORS, ValueError):
                output.close()
            # The SDK closes the socket, but not the file over it, which then lives until it is collected.
            output._response.close()  # type: ignore[attr-defined]

    def _started(self, started_at: datetime, output: Any) -> RunResult:
        awaited = [self._thread(self._output_read, output), self._thread(self._end_await), self._thread(self._outputs_watch)]
        # Not awaited with the run: the engine's answer may be a second away, and the counters know more by then.
        self.sampler = self._thread(self._samples_take)
        self._watch()
        wall_seconds = time.monotonic() - self._begun
        for thread in awaited:
            thread.join(_END_SECONDS)
        return self._conclude(started_at, wall_seconds)

    def _watch(self) -> None:
        """Until the container has ended, killing it when it must."""
        killed_at: float | None = None
        while not self._ended.wait(_LOOK_SECONDS):
            if self._cancel.is_set():
                self._fail(FailureCode.CANCELLED, "Cancelled while the container ran.")
            elif time.monotonic() - self._begun > self._spec.limits.wall_seconds:
                self._fail(FailureCode.LIMIT_WALL, f"The container ran longer than its {self._spec.limits.wall_seconds} s.")
            if self._failure is None:
                continue
            if killed_at is not None and time.monotonic() - killed_at > _END_SECONDS:
                log.error("container %s does not end after being killed; going on without it", self._spec.name)
                self._ended.set()
                return
            killed_at = killed_at or time.monotonic()
            self._kill()

    def _kill(self) -> None:
        with suppress(*ENGINE_ERRORS):  # it may have ended meanwhile; an engine that is away is noticed by the thread that waits
            self._client.kill(self._id, "SIGKILL")

    def _conclude(self, started_at: datetime, wall_seconds: float) -> RunResult:
        exit_code: int | None = None
        try:
            state = self._client.inspect_container(self._id)["State"]
            if state["Status"] == "exited" and self._failure is None:
                exit_code = int(state["ExitCode"])
                self._exit_judge(exit_code, oom_killed=bool(state.get("OOMKilled")))
        except ENGINE_ERRORS as error:
            self._fail(FailureCode.HOST_ENGINE, f"The container engine was lost during the run: {type(error).__name__}.")
        return RunResult(
            exit_code=exit_code,
            failure=self._failure,
            usage=self._meter.usage(wall_seconds=wall_seconds, gpus=len(self._spec.gpus), counters=self._counters),
            started_at=started_at,
            # Not the clock again: one that was set back meanwhile would have the run end before it began, which no portal takes.
            finished_at=started_at + timedelta(seconds=wall_seconds),
            output_dropped_bytes=self._dropped_bytes,
        )

    def _exit_judge(self, exit_code: int, *, oom_killed: bool) -> None:
        excess = excess_of(folder_measure(self._spec.outputs_dir), self._spec.limits)
        if excess is not None:
            self._fail(excess.code, excess.message)
        elif exit_code == 0:
            return
        elif oom_killed:
            self._fail(FailureCode.LIMIT_MEMORY, f"The container needed more than its {self._spec.limits.memory_bytes} bytes of memory.")
        elif exit_code == _FILE_SIZE_EXIT_CODE:
            self._fail(FailureCode.LIMIT_OUTPUT, "The container wrote a file larger than its outputs may be.")
        else:
            self._fail(FailureCode.EXIT_NONZERO, f"The container ended with exit code {exit_code}.")

    def _not_started(self, started_at: datetime, error: Exception) -> RunResult:
        """A command that the image lacks is the job's fault; anything else is raised as ours."""
        exit_code = None
        with suppress(*ENGINE_ERRORS):
            exit_code = int(self._client.inspect_container(self._id)["State"]["ExitCode"])
        if not isinstance(error, APIError) or exit_code not in _NOT_STARTABLE:
            raise _engine_failure("can't start the container", error) from error
        command = " ".join(self._spec.command[:1]) or "its own command"
        self._fail(FailureCode.EXIT_NONZERO, f"The image can't run {command[:200]!r}: no such program, or it is not executable.")
        usage = self._meter.usage(wall_seconds=time.monotonic() - self._begun, gpus=0)
        return RunResult(exit_code, self._failure, usage, started_at, started_at + timedelta(seconds=usage.wall_seconds))

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
                self._fail(FailureCode.HOST_ENGINE, f"The container engine was lost during the run: {type(error).__name__}.")
                self._ended.set()
            elif work == self._outputs_watch:
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
        pause_seconds = look_pause_seconds(0)
        while not self._ended.wait(pause_seconds):
            begun = time.monotonic()
            size = outputs_measure(self._spec.outputs_dir, self._cgroup.pids() if self._cgroup else ())
            self._folder_bytes = size.content_bytes
            excess = excess_of(size, self._spec.limits)
            if excess is not None:
                self._fail(excess.code, excess.message)
                self._kill()  # here too: the disk fills while another thread gets to know
                return
            pause_seconds = look_pause_seconds(time.monotonic() - begun)

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
            self._counters = cgroup.read() or self._counters
            elapsed_seconds = time.monotonic() - self._begun
            if self._ended.wait(min(longest_seconds, max(shortest_seconds, elapsed_seconds / 20))):
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
        while not self._ended.wait(pause_seconds):
            pause_seconds = min(_SAMPLE_SECONDS_MAX, pause_seconds * 1.5)
            stats = self._client.stats(self._id, stream=False, one_shot=True)
            elapsed_seconds = time.monotonic() - self._begun
            with self._sink_lock:
                # Nobody waits for this thread: what it learns after the end is dropped.
                if self._ended.is_set():
                    return
                sample = self._meter.sample(stats, at=datetime.now(UTC), elapsed_seconds=elapsed_seconds, output_bytes=self._folder_bytes)
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
        self._client.wait(self._id, timeout=self._spec.limits.wall_seconds + _REQUEST_SECONDS)
        self._ended.set()

    def _fail(self, code: FailureCode, message: str) -> None:
        """The first failure is the one that counts."""
        with self._failure_lock:
            self._failure = self._failure or Failure(code=code, message=message[:1000])


def _folders_prepare(spec: RunSpec, *, rootless: bool) -> str:
    """Let the container read its inputs and write its outputs; the user it runs as.

    A host that is root gives the outputs to uid 65534. One that is not can't, and could not read or remove what that user leaves: its
    containers run as the host's own user, without capabilities. Under a rootless engine user ids mean others: open to all.
    """
    for folder, _, files in os.walk(spec.inputs_dir):
        Path(folder).chmod(0o755)
        for name in files:
            (Path(folder) / name).chmod(0o644)
    if os.geteuid() == 0:
        os.chown(spec.outputs_dir, 65534, 65534)
        spec.outputs_dir.chmod(0o700)
        return CONTAINER_USER
    spec.outputs_dir.chmod(0o777 if rootless else 0o700)
    return CONTAINER_USER if rootless else f"{os.geteuid()}:{os.getegid()}"


def _engine_failure(what: str, error: Exception) -> RuntimeFailureError:
    # The engine's own words may name paths of the host: they go to the host's log, not into the receipt.
    # As text: a kept log record would keep the error, and through its traceback the connection.
    log.warning("the container engine %s: %s", what, f"{error}")
    return RuntimeFailureError(FailureCode.HOST_ENGINE, f"The container engine {what} ({type(error).__name__}).")
