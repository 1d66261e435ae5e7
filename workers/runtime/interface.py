"""What the host asks of a container runtime, and what it gets back.

One implementation per kind of engine (`docker_engine.DockerRuntime`; Apptainer and Kubernetes later). A runtime knows nothing of
leases, orders or the portal: it runs one container under limits and says what happened. Failures that belong to the run come back in
`RunResult.failure`; what keeps a run from starting is raised as a `RuntimeFailureError`, which carries the same `Failure`:

    RuntimeFailureError
    └── RunLostError      a container ran, and how it ended is not known, or was not its own doing: run it again

A container outlives the process that started it. Whoever has crashed asks for it by its name (`adopt`), and follows it to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from workers.protocol.messages.machine import EngineProfile, Gpu
from workers.protocol.messages.order import ImageReference, Limits
from workers.protocol.messages.receipt import Failure, FailureCode, Usage

OutputStream = Literal["stdout", "stderr"]

INPUTS_PATH = "/inputs"
OUTPUTS_PATH = "/outputs"


class RuntimeFailureError(Exception):
    """Nothing ran. `failure.code` is `host_engine`, `host_refused`, `image_unavailable` or `cancelled`, and says whose fault it is."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message[:1000])


class RunLostError(RuntimeFailureError):
    """The engine went away under a run, or somebody else than the runtime ended it: no fault of the job's.

    The container may still be there, and even run: `adopt` tells, once the engine answers again. Not if the run `is_over`: then the
    container has ended, and is removed, so that nobody takes its end for its own.
    """

    def __init__(self, message: str, *, is_over: bool = False) -> None:
        super().__init__(FailureCode.HOST_ENGINE, message)
        self.is_over = is_over


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What one granted GPU does at this moment; `None` where it does not tell. `utilisation` is from 0 to 1."""

    name: str
    utilisation: float | None = None
    memory_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the container used by now. Counters grow from the start of the container; `None` where the engine does not tell."""

    at: datetime
    elapsed_seconds: float
    cpu_seconds: float
    cpu_percent: float | None
    memory_bytes: int
    memory_peak_bytes: int
    pids: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    output_bytes: int | None = None
    gpus: tuple[GpuSample, ...] = ()

    def details(self) -> dict[str, Any]:
        """As the compute log keeps it: `at` is the line's own; what a GPU does not tell is left out, and `gpus` without one."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in {"at", "gpus"}}
        gpus = [{name: value for name, value in asdict(gpu).items() if value is not None} for gpu in self.gpus]
        return named | ({"gpus": gpus} if gpus else {})


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far an image has come: bytes over all layers known so far; `total_bytes` grows as layers announce themselves."""

    status: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run. `name` becomes the container's name; `labels` mark it as ours (`nexapod.home`, `nexapod.lease`).

    `inputs_dir` is mounted read-only at /inputs and `outputs_dir` writable at /outputs; both exist, are absolute, and belong to this run
    alone. The container runs as uid 65534, or under a host that is not root as the host's own uid, which alone could remove what it wrote
    (under a rootless engine that is uid 0 of its own). The runtime makes `outputs_dir` writable for it, and readable and removable for the
    host afterwards. `environment` is the order's; NEXA_INPUTS, NEXA_OUTPUTS, HOME and TMPDIR are added. `gpus` are the granted devices.
    """

    name: str
    labels: Mapping[str, str]
    image_id: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    inputs_dir: Path
    outputs_dir: Path
    limits: Limits
    gpus: tuple[Gpu, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class RunResult:
    """What happened. `exit_code` is None when the container never ended by itself; `failure` is None only for exit code 0 within limits.

    `output_dropped_bytes` counts container output that the runtime read but did not hand to the sink, because of its cap.
    """

    exit_code: int | None
    failure: Failure | None
    usage: Usage
    started_at: datetime
    finished_at: datetime
    output_dropped_bytes: int = 0


class RunSink(Protocol):
    """Where a run's output and samples go. Called from the runtime's threads, one call at a time; must return quickly.

    An exception from a sink ends the run with `host_error`; it never leaves a container behind.
    """

    def on_output(self, stream: OutputStream, data: bytes, /) -> None: ...

    def on_sample(self, sample: Sample, /) -> None: ...

    def on_start(self, *, adopted: bool) -> None:
        """What comes from now on is the container's own output. `adopted`: it ran before, and what it wrote meanwhile is lost."""
        ...

    def on_end(self, result: RunResult, /) -> None:
        """Called once, after the last output and sample and before the container is removed: what must survive a crash is kept now."""
        ...


class ImageKeeper(Protocol):
    """The images that this host pulled for jobs: a cache."""

    def folder(self) -> Path | None:
        """Where the engine keeps them, if that is on this machine. Raises RuntimeFailureError (`host_engine`)."""
        ...

    def kept_bytes(self) -> int:
        """What could be removed now. Quick."""
        ...

    def trim(self, *, room_bytes: int | None = None) -> int:
        """Remove what was not used for longest and is not in use: what is beyond the budget, or (`room_bytes`) at least so much.

        The bytes removed. Raises nothing: an engine that is away is trimmed another time.
        """
        ...


class Runtime(Protocol):
    """A container engine. Methods may be called from several threads at once."""

    @property
    def images(self) -> ImageKeeper: ...

    def profile(self) -> EngineProfile:
        """What the engine is and which limits it would ignore.

        Raises RuntimeFailureError: `host_engine` when unreachable, `host_refused` when set up so that no run can succeed, with what to do.
        """
        ...

    def image_ensure(
        self,
        image: ImageReference,
        *,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float = 3600.0,
    ) -> str:
        """The id (`sha256:…`) of the image, pulled by digest if it is not here, which stays while the run that it is for begins and lasts.

        A registry that is away is tried again until the time is up. Raises RuntimeFailureError: `image_unavailable`, `host_engine`,
        `host_refused` (larger than this host takes), `host_disk`, `cancelled`.
        """
        ...

    def run(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult:
        """Run one container to its end, or to a limit, or until `cancel` is set (over within 2 s); then remove it.

        A container of the same name that an earlier try left is removed first. Raises RuntimeFailureError when nothing ran: `host_engine`,
        `host_refused` (the engine would ignore a limit), `image_unavailable`; and RunLostError.
        """
        ...

    def adopt(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult | None:
        """Follow the container of `spec.name`, which an earlier process started, to its end, as `run` does; then remove it.

        One that has ended meanwhile is concluded, if the engine still knows how. None, and no container is left, where there is none, it
        never started, or its end can't be told from one by a power cut or a restart of the engine. Output of the time in between
        is lost. Raises RuntimeFailureError (`host_engine`), RunLostError.
        """
        ...

    def reconnect(self) -> None:
        """Forget what was learnt of the engine, which may be another one by now."""
        ...

    def leftovers_remove(self, home_id: str, *, keep: Callable[[], Collection[str]] = tuple) -> int:
        """Remove every container labelled `nexapod.home=<home_id>` but those named in `keep`, running or not; how many were removed.

        One that the engine refuses to remove is left for another time. `keep` is asked once the containers are known: one that is made
        meanwhile is not among them.

        Raises RuntimeFailureError.
        """
        ...

    def alive(self) -> bool:
        """Whether the engine answers, within a few seconds. Raises nothing."""
        ...
