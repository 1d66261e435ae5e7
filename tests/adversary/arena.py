"""Where attacks take place: the real engine of this machine through our own runtime, and what must be so after each of them."""

from __future__ import annotations

import json
import os
import re
import resource
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import docker
import psutil

from tests.adversary import attacks
from workers.folders import folder_remove
from workers.protocol.messages.order import Limits
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunResult, RunSpec, Sample

MIB: Final = 2**20
HOME: Final = f"test-home-adversary-{os.getpid()}"
"""Of this process alone: other tests may run on the same engine."""

_KEPT_BYTES: Final = 2**20
_CGROUPS: Final = Path("/sys/fs/cgroup")
_END_SECONDS: Final = 10.0


class Sink:
    """Keeps the first MiB of each stream and counts the rest. With `cancel_at_output`, the run is cancelled when it says something."""

    def __init__(self) -> None:
        self.output = {"stdout": b"", "stderr": b""}
        self.bytes = 0
        self.samples: list[Sample] = []

    def on_output(self, stream: str, data: bytes) -> None:
        self.bytes += len(data)
        self.output[stream] += data[: _KEPT_BYTES - len(self.output[stream])]

    def on_sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def on_start(self, *, adopted: bool) -> None:
        """Needs no note."""

    def on_end(self, result: RunResult, /) -> None:
        """As above."""


@dataclass(frozen=True)
class Outcome:
    """What came of one attack, and what it took: by how much this process grew, and the outputs' disk filled, at most."""

    result: RunResult
    sink: Sink
    outputs: Path
    container_id: str
    memory_growth_bytes: int
    disk_peak_bytes: int
    seconds: float

    @property
    def failure(self) -> FailureCode | None:
        return self.result.failure.code if self.result.failure else None

    @property
    def said(self) -> Any:
        """The last line that the attack printed."""
        return json.loads(self.sink.output["stdout"].splitlines()[-1])


class Arena:
    """Attacks in containers, one at a time. `close` at the end."""

    def __init__(self, folder: Path, image_id: str, runtime: DockerRuntime | None = None) -> None:
        self._folder = folder
        self._image_id = image_id
        self._client = docker.APIClient(version="auto")
        self.runtime = runtime or DockerRuntime()

    def attack(self, name: str, *arguments: str, **limits: Any) -> Outcome:
        """Run one function of attacks.py; `limits` differ from small defaults."""
        return self.run("python3", "/inputs/attacks.py", name, *arguments, program=Path(attacks.__file__), **limits)

    def run(self, *command: str, program: Path | None = None, image_id: str | None = None, **limits: Any) -> Outcome:
        spec = self._spec(command, image_id or self._image_id, limits)
        if program is not None:
            (spec.inputs_dir / program.name).write_bytes(program.read_bytes())
        sink, since, begun, memory = Sink(), time.time(), time.monotonic(), _memory_peak_reset()
        with _DiskPeak(spec.outputs_dir.parent) as disk:
            result = self.runtime.run(spec, sink, threading.Event())
        seconds, growth = time.monotonic() - begun, _memory_peak() - memory
        bounds: Any = {"since": f"{since - 1:.6f}", "until": f"{time.time():.6f}"}
        created = self._client.events(**bounds, filters={"container": spec.name, "event": "create"}, decode=True)
        (container_id,) = (event["id"] for event in created)
        return Outcome(result, sink, spec.outputs_dir, container_id, growth, disk.bytes, seconds)

    def healthy_check(self, outcome: Outcome) -> None:
        """No container, process, cgroup, mount or file of it is left, this process did not grow, and the next job is an ordinary one."""
        assert self._client.containers(all=True, filters={"label": f"nexapod.home={HOME}"}) == []
        container_id = outcome.container_id
        end = time.monotonic() + _END_SECONDS
        while (left := _processes(container_id)) and time.monotonic() < end:
            time.sleep(0.01)
        assert left == []
        assert [path for pattern in ("*/docker", "docker", "system.slice") for path in _CGROUPS.glob(f"{pattern}/*{container_id}*")] == []
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        assert container_id not in mounts
        assert str(outcome.outputs) not in mounts
        folder_remove(outcome.outputs)
        assert not os.path.lexists(outcome.outputs)
        assert outcome.memory_growth_bytes < 64 * MIB
        ordinary = self.run("sh", "-c", "echo well; echo well > /outputs/said")
        assert (ordinary.result.exit_code, ordinary.result.failure, ordinary.sink.output["stdout"]) == (0, None, b"well\n")
        assert (ordinary.outputs / "said").read_bytes() == b"well\n"
        folder_remove(ordinary.outputs)

    def close(self) -> None:
        self.runtime.leftovers_remove(HOME)
        self.runtime.close()
        self._client.close()

    def _spec(self, command: tuple[str, ...], image_id: str, limits: dict[str, Any]) -> RunSpec:
        name = f"nexapod-adversary-{time.monotonic_ns()}"
        folder = self._folder / name
        for each in ("inputs", "outputs"):
            (folder / each).mkdir(parents=True)
        defaults = {"wall_seconds": 60, "memory_bytes": 64 * MIB, "cpus": 1, "pids": 64, "disk_bytes": 64 * MIB, "output_bytes": 32 * MIB}
        return RunSpec(
            name=name,
            labels={"nexapod.home": HOME, "nexapod.lease": "test"},
            image_id=image_id,
            command=command,
            environment={"GIVEN": "yes"},
            inputs_dir=folder / "inputs",
            outputs_dir=folder / "outputs",
            limits=Limits(**(defaults | limits)),
        )


class _DiskPeak:
    """By how many bytes the disk under a folder filled at most, looked at every few milliseconds. Others' work on it counts too."""

    def __init__(self, folder: Path) -> None:
        self.bytes = 0
        self._folder = folder
        self._free = self._free_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.bytes = max(self.bytes, self._free - self._free_bytes())

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bfree * disk.f_frsize


def _processes(container_id: str) -> list[int]:
    """Processes of a container, as the kernel's cgroups tell. A zombie has none."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace"):
                found.append(pid)
    return found


def _memory_peak_reset() -> int:
    """Forget the peak; what this process holds now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return psutil.Process().memory_info().rss


def _memory_peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
