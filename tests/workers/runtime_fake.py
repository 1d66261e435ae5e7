"""A container runtime without containers: runs small Python functions, by the order's command, and raises what the real one raises.

Commands: `sleep SECONDS`, `progress FRACTION`, `fail CODE`, `exit N`, `crash` (the sink's caller raises), and for the outputs `write PATH
TEXT`, `copy INPUT PATH`, `hide PATH` (a file that its mode keeps from everybody), `vanish` (their folder is gone), `many COUNT LENGTH` (so
many empty files with names of that length); several in one order are separated by `;`. Everything that it does can be cancelled.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from workers.protocol.messages.machine import EngineProfile
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import Failure, FailureCode, Usage
from workers.runtime.interface import PullProgress, RunLostError, RunResult, RunSink, RunSpec, RuntimeFailureError, Sample

IMAGE_ID = "sha256:" + "1a" * 32


@dataclass
class FakeImages:
    """Implements workers.runtime.interface.ImageKeeper: images of `sizes`, in `place`."""

    place: Path | None = None
    sizes: list[int] = field(default_factory=list)

    def folder(self) -> Path | None:
        return self.place

    def kept_bytes(self) -> int:
        return sum(self.sizes)

    def trim(self, *, room_bytes: int | None = None) -> int:
        removed_bytes = 0
        while self.sizes and room_bytes is not None and removed_bytes < room_bytes:
            removed_bytes += self.sizes.pop(0)
        return removed_bytes


@dataclass
class FakeRuntime:
    """Implements workers.runtime.interface.Runtime; `specs` are the runs asked for, `leftovers` containers of a home by its id."""

    specs: list[RunSpec] = field(default_factory=list)
    images: FakeImages = field(default_factory=FakeImages)
    leftovers: dict[str, int] = field(default_factory=dict)
    images_absent: set[str] = field(default_factory=set)
    limits_ignored: tuple[str, ...] = ()
    away: bool = False
    losses: int = 0
    """So many runs will be lost."""
    adoptions: int = 0
    """How often containers of an earlier process were asked for."""
    adoptions_lost: int = 0
    """So many of them will fail, by an engine that answers otherwise."""
    found: dict[str, RunResult] = field(default_factory=dict)
    """What containers that an earlier process started came to, by name."""

    def alive(self) -> bool:
        return not self.away

    def profile(self) -> EngineProfile:
        return EngineProfile(name="fake", version="1", cgroup_version="2", rootless=False, limits_ignored=self.limits_ignored)

    def image_ensure(
        self,
        image: ImageReference,
        *,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float = 3600.0,
    ) -> str:
        if cancel.is_set():
            raise RuntimeFailureError(FailureCode.CANCELLED, "cancelled while pulling")
        if image.name in self.images_absent:
            raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"no image {image.name}")
        report(PullProgress("pulling", 50, 100))
        return image.image_id or IMAGE_ID

    def run(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult:
        self.specs.append(spec)
        sink.on_start(adopted=False)
        if self.losses:
            self.losses -= 1
            raise RunLostError("The engine went away.")
        started_at, began = datetime.now(UTC), time.monotonic()
        exit_code: int | None = 0
        failure: Failure | None = None
        for command in " ".join(spec.command).split(" ; "):
            word, *rest = command.split()
            if word == "progress":
                sink.on_output("stdout", json.dumps({"nexa_progress": float(rest[0]), "stage": "annealing"}).encode() + b"\n")
            elif word == "sleep":
                if cancel.wait(float(rest[0])):
                    exit_code, failure = None, Failure(code=FailureCode.CANCELLED, message="cancelled")
                    break
            elif word == "exit":
                exit_code = int(rest[0])
            elif word == "fail":
                exit_code, failure = None, Failure(code=FailureCode(rest[0]), message="as told")
            elif word == "crash":
                raise RuntimeError("the engine's client has a bug")
            else:
                _outputs_leave(spec, word, *rest)
        elapsed = time.monotonic() - began
        sink.on_sample(Sample(datetime.now(UTC), elapsed, elapsed, 100.0, 2**20, 2**21))
        usage = Usage(wall_seconds=elapsed, cpu_seconds=elapsed, memory_peak_bytes=2**21, samples=1)
        if failure is None and exit_code:
            failure = Failure(code=FailureCode.EXIT_NONZERO, message=f"exit code {exit_code}")
        result = RunResult(exit_code, failure, usage, started_at, datetime.now(UTC))
        sink.on_end(result)
        return result

    def adopt(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult | None:
        self.adoptions += 1
        if self.adoptions <= self.adoptions_lost:
            raise RunLostError("The engine can't be asked.")
        result = self.found.pop(spec.name, None)
        if result is not None:
            sink.on_start(adopted=True)
            sink.on_end(result)
        return result

    def reconnect(self) -> None:
        """There is nothing to learn."""

    def leftovers_remove(self, home_id: str, *, keep: Callable[[], Collection[str]] = tuple) -> int:
        return self.leftovers.pop(home_id, 0)


def _outputs_leave(spec: RunSpec, word: str, *rest: str) -> None:
    folder = spec.outputs_dir
    match word, *rest:
        case "write", path, *text:
            (folder / path).write_text(" ".join(text))
        case "copy", wanted, path:
            (folder / path).write_bytes((spec.inputs_dir / wanted).read_bytes())
        case "hide", path:
            (folder / path).touch(mode=0)
        case ("vanish",):
            folder.rmdir()
        case "many", count, length:
            for number in range(int(count)):
                (folder / f"{number:0{length}}").touch()
