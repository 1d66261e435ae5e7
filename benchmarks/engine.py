"""What the container engine costs by itself, and what the host's runtime adds: the same container under the same limits, three ways."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import docker

from benchmarks.figures import Figure, median
from devstack.engine import EngineHandle
from workers.protocol.messages.order import Limits
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import INPUTS_PATH, OUTPUTS_PATH, OutputStream, RunResult, RunSpec, Sample
from workers.runtime.sandbox import CONTAINER_USER, container_arguments, host_config_arguments

ROUNDS: Final = 12
CALLS: Final = ("create", "start", "wait", "remove")
LIMITS: Final = Limits(
    wall_seconds=60, memory_bytes=128 * 10**6, cpus=1.0, pids=32, disk_bytes=64 * 10**6, output_bytes=4 * 10**6, gpus=0, gpu_memory_bytes=0
)


class _Nowhere:
    """A sink that keeps nothing."""

    def on_start(self, *, adopted: bool) -> None:
        pass

    def on_output(self, stream: OutputStream, data: bytes, /) -> None:
        pass

    def on_sample(self, sample: Sample, /) -> None:
        pass

    def on_end(self, result: RunResult) -> None:
        pass


def spec_make(folder: Path, image_id: str, *command: str) -> RunSpec:
    """A run with new folders of its own below `folder`."""
    name = f"nexapod-bench-{uuid.uuid4().hex[:12]}"
    inputs, outputs = folder / name / "inputs", folder / name / "outputs"
    for made in (inputs, outputs):
        made.mkdir(parents=True)
    labels = {"nexapod.home": "benchmarks"}
    return RunSpec(
        name=name, labels=labels, image_id=image_id, command=command, environment={}, inputs_dir=inputs, outputs_dir=outputs, limits=LIMITS
    )


def bare_run(spec: RunSpec, *, docker_host: str) -> float:
    """Seconds that `docker run` takes for the same container under the same limits, as somebody would type it."""
    limits = spec.limits
    options = [
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--init",
        "--ipc=private",
        "--log-driver=none",
        f"--user={CONTAINER_USER}",
        f"--pids-limit={limits.pids}",
        f"--memory={limits.memory_bytes}",
        f"--memory-swap={limits.memory_bytes}",
        f"--cpus={limits.cpus}",
        f"--shm-size={limits.memory_bytes // 4}",
        "--ulimit=core=0",
        f"--ulimit=fsize={limits.disk_bytes}",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={limits.disk_bytes}",
        f"--mount=type=bind,source={spec.inputs_dir},target={INPUTS_PATH},readonly",
        f"--mount=type=bind,source={spec.outputs_dir},target={OUTPUTS_PATH}",
    ]
    began = time.monotonic()
    subprocess.run(
        ["docker", "--host", docker_host, "run", "--rm", *options, spec.image_id, *spec.command], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def engine_figures(engine: EngineHandle, folder: Path, image_id: str) -> list[Figure]:
    """`true`, in turns: by the command line, by the runtime, and by the engine's four calls alone."""
    runtime = DockerRuntime(engine.base_url)
    client = docker.APIClient(base_url=engine.base_url, version="auto")
    seconds: dict[str, list[float]] = {}
    try:
        for _ in range(ROUNDS):
            seconds.setdefault("bare", []).append(bare_run(spec_make(folder, image_id, "true"), docker_host=engine.base_url))
            spec = spec_make(folder, image_id, "true")
            with _timed(seconds, "ours"):
                runtime.run(spec, _Nowhere(), threading.Event())
            _calls_time(client, spec_make(folder, image_id, "true"), seconds)
    finally:
        client.close()
        runtime.close()
    middle = {name: median(found) for name, found in seconds.items()}
    calls = sum(middle[name] for name in CALLS)
    parts = ", ".join(f"{name} {middle[name] * 1e3:.0f}" for name in CALLS)
    return [
        Figure("`docker run` of `true`, p50", middle["bare"] * 1e3, "ms"),
        Figure("the engine's own calls, p50", calls * 1e3, "ms", note=parts),
        Figure("the host's runtime, p50", middle["ours"] * 1e3, "ms", note="with output, samples, counters, limits watched"),
        Figure("runtime over bare calls", middle["ours"] / calls, "x"),
        Figure("runtime over `docker run`", middle["ours"] / middle["bare"], "x", limit=1.0),
    ]


def _calls_time(client: docker.APIClient, spec: RunSpec, seconds: dict[str, list[float]]) -> None:
    host_config = client.create_host_config(**host_config_arguments(spec))
    arguments = container_arguments(spec, user=CONTAINER_USER)
    with _timed(seconds, "create"):
        made = client.create_container(**arguments, host_config=host_config)["Id"]
    with _timed(seconds, "start"):
        client.start(made)
    with _timed(seconds, "wait"):
        client.wait(made)
    with _timed(seconds, "remove"):
        client.remove_container(made, v=True, force=True)


@contextmanager
def _timed(seconds: dict[str, list[float]], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds.setdefault(name, []).append(time.monotonic() - began)
