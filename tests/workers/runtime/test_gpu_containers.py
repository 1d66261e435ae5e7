"""GPUs at the engine's API: a real engine is asked what it was told. Containers are created, never started: there may be no GPU here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from devstack.images import base_image_ensure
from tests.workers.runtime.engines import EngineWire
from workers.protocol.messages import FailureCode, Gpu, Limits
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
        limits=Limits(wall_seconds=9, memory_bytes=2**26, cpus=0.5, pids=9, disk_bytes=2**20, output_bytes=2**20, gpus=len(gpus)),
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
