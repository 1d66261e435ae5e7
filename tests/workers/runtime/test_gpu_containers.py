"""GPUs at the engine's API: a real engine is asked what it was told. Containers with GPUs are created, never started: it may have none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from devstack.images import base_image_ensure
from tests.workers.nvml.machine import StubGpu, StubMachine
from tests.workers.runtime.engines import EngineWire
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunResult, RunSpec, RuntimeFailureError, Sample
from workers.runtime.sandbox import CONTAINER_USER, container_arguments, host_config_arguments

pytestmark = pytest.mark.docker
HOME = f"test-home-gpus-{os.getpid()}"
GPUS = tuple(
    Gpu(index=index, uuid=f"GPU-0000000{index}-aaaa-bbbb-cccc-dddddddddddd", name="Stub", memory_bytes=8 << 30) for index in range(3)
)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient(version="auto")
    yield client
    for container in client.containers(all=True, filters={"label": f"nexapod.home={HOME}"}):
        client.remove_container(container["Id"], v=True, force=True)
    client.close()


@pytest.fixture(scope="module")
def image_id() -> str:
    client = docker.from_env()
    try:
        return str(client.images.get(base_image_ensure(client, report=lambda _: None)).id)
    finally:
        client.close()


def spec_of(folder: Path, image_id: str, *gpus: Gpu) -> RunSpec:
    for name in ("inputs", "outputs"):
        (folder / name).mkdir()
    return RunSpec(
        name=f"nexapod-test-{os.getpid()}-{folder.name}",
        labels={"nexapod.home": HOME, "nexapod.lease": "test"},
        image_id=image_id,
        command=("true",),
        environment={"NVIDIA_VISIBLE_DEVICES": "all"},
        inputs_dir=folder / "inputs",
        outputs_dir=folder / "outputs",
        limits=Limits(wall_seconds=120, memory_bytes=2**26, cpus=0.5, pids=9, disk_bytes=2**20, output_bytes=2**20, gpus=len(gpus)),
        gpus=gpus,
    )


def created(engine: docker.APIClient, spec: RunSpec) -> dict[str, Any]:
    """What the engine says of the container that it made of this run."""
    host_config = engine.create_host_config(**host_config_arguments(spec))
    made = engine.create_container(**container_arguments(spec, user=CONTAINER_USER), host_config=host_config)
    return dict(engine.inspect_container(made["Id"]))


def visible(found: dict[str, Any]) -> list[str]:
    return [one for one in found["Config"]["Env"] if one.startswith("NVIDIA_VISIBLE_DEVICES")]


def test_engine_holds_exactly_the_granted_gpus(engine: docker.APIClient, tmp_path: Path, image_id: str) -> None:
    found = created(engine, spec_of(tmp_path, image_id, GPUS[2], GPUS[0]))
    assert found["HostConfig"]["DeviceRequests"] == [
        {"Driver": "", "Count": 0, "DeviceIDs": [GPUS[2].uuid, GPUS[0].uuid], "Capabilities": [["gpu"]], "Options": {}}
    ]
    assert not found["HostConfig"]["Devices"]
    assert not found["HostConfig"]["DeviceCgroupRules"]
    assert visible(found) == [f"NVIDIA_VISIBLE_DEVICES={GPUS[2].uuid},{GPUS[0].uuid}"]
    assert found["State"]["Status"] == "created"


def test_engine_holds_no_device_of_a_run_without_gpus(engine: docker.APIClient, tmp_path: Path, image_id: str) -> None:
    found = created(engine, spec_of(tmp_path, image_id))
    assert not found["HostConfig"]["DeviceRequests"]
    assert not found["HostConfig"]["Devices"]
    assert visible(found) == ["NVIDIA_VISIBLE_DEVICES=void"]


class _Sink:
    def on_output(self, stream: str, data: bytes) -> None:
        raise AssertionError("nothing runs")

    def on_sample(self, sample: Sample) -> None:
        raise AssertionError("nothing runs")

    def on_start(self, *, adopted: bool) -> None:
        raise AssertionError("nothing runs")

    def on_end(self, result: RunResult) -> None:
        raise AssertionError("nothing runs")


def test_engine_that_cannot_give_the_gpus_is_the_hosts_fault_and_nothing_is_left(
    engine: docker.APIClient, tmp_path: Path, image_id: str
) -> None:
    # Without NVIDIA's toolkit no driver takes the request; with it, the driver knows no GPUs of these names.
    spec = spec_of(tmp_path, image_id, GPUS[1])
    wire = EngineWire()
    runtime = DockerRuntime(wire.url)
    try:
        with pytest.raises(RuntimeFailureError, match="can't start the container") as caught:
            runtime.run(spec, _Sink(), threading.Event())
        told = wire.created()
    finally:
        runtime.close()
        wire.cut()
    assert caught.value.failure.code is FailureCode.HOST_ENGINE
    assert [request["DeviceIDs"] for request in told["HostConfig"]["DeviceRequests"]] == [[GPUS[1].uuid]]
    assert f"NVIDIA_VISIBLE_DEVICES={GPUS[1].uuid}" in told["Env"]
    assert engine.containers(all=True, filters={"name": spec.name}) == []


ADOPT = """
import dataclasses, json, sys, threading
from pathlib import Path
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunSpec

told = json.load(sys.stdin)
spec = RunSpec(
    name=told["name"], labels=told["labels"], image_id=told["image_id"], command=(), environment={},
    inputs_dir=Path(told["inputs_dir"]), outputs_dir=Path(told["outputs_dir"]),
    limits=Limits.model_validate(told["limits"]), gpus=tuple(Gpu.model_validate(gpu) for gpu in told["gpus"]),
)
samples, cancel = [], threading.Event()

class Sink:
    def on_output(self, stream, data): pass
    def on_start(self, *, adopted): pass
    def on_sample(self, sample):
        samples.append(sample.details())
        if len(samples) == 3:
            cancel.set()
    def on_end(self, result): pass

runtime = DockerRuntime()
result = runtime.adopt(spec, Sink(), cancel)
runtime.close()
print(json.dumps({"usage": result.usage.model_dump(mode="json"), "samples": samples}))
"""


def test_samples_and_usage_of_a_real_run_tell_what_its_gpus_did(engine: docker.APIClient, tmp_path: Path, image_id: str) -> None:
    """The engine may have no GPUs to give: a container without them is followed as if it had some, on a machine that is a stub."""
    without = replace(spec_of(tmp_path, image_id), command=("sleep", "60"))
    host_config = engine.create_host_config(**host_config_arguments(without))
    engine.create_container(**container_arguments(without, user=CONTAINER_USER), host_config=host_config)
    engine.start(without.name)
    machine = StubMachine(
        tmp_path,
        StubGpu("GPU-other", utilisation_percent=99),
        StubGpu("GPU-mine", utilisation_percent=50, used_bytes=2**30, temperature_celsius=61, power_milliwatts=100_000),
    )
    told = {
        **{name: getattr(without, name) for name in ("name", "labels", "image_id")},
        **{name: str(getattr(without, name)) for name in ("inputs_dir", "outputs_dir")},
        "limits": without.limits.model_dump(),
        "gpus": [Gpu(index=1, uuid="GPU-mine", name="Stub", memory_bytes=2**33).model_dump()],
    }
    environment = machine.environment
    done = subprocess.run(
        [sys.executable, "-c", ADOPT], input=json.dumps(told), env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["samples"][0]["gpus"] == [
        {"name": "Stub", "utilisation": 0.5, "memory_bytes": 2**30, "temperature_celsius": 61, "power_watts": 100.0}
    ]
    [gpu] = found["usage"]["gpus"]
    assert (gpu["name"], gpu["memory_peak_bytes"], gpu["temperature_peak_celsius"]) == ("Stub", 2**30, 61)
    sampled_seconds = found["samples"][-1]["elapsed_seconds"] - found["samples"][0]["elapsed_seconds"]
    assert len(found["samples"]) >= 3
    assert gpu["energy_joules"] == pytest.approx(100 * sampled_seconds)
    assert gpu["utilisation_seconds"] == pytest.approx(0.5 * sampled_seconds)
    usage = found["usage"]
    assert usage["memory_byte_seconds"] > 0
    assert usage["pids_peak"] >= 1
    assert [line for line in machine.asked() if "other" in line] == []
