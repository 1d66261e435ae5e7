"""Engines that refuse, fail or vanish: whose fault the run's end is, and that nothing is left behind for good."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from tests.workers.runtime.engines import EngineWire, engine_telling, wire
from tests.workers.runtime.test_docker_engine import Sink, _spec, image_id, runtime
from tests.workers.runtime.test_docker_profile import DOCKER, DOCKER_V1
from workers.engine_watch import EngineWatch
from workers.folders import folder_remove
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunLostError, RuntimeFailureError

__all__ = ["image_id", "runtime", "wire"]

GPU = Gpu(index=1, uuid="GPU-8a56a4bc-f184-a047-2620-000000000000", name="Stub", memory_bytes=8 << 30, driver_version="550.1")


def test_engine_that_ignores_a_limit_runs_nothing(tmp_path: Path) -> None:
    info = DOCKER_V1 | {"PidsLimit": False}
    version = DOCKER | {"ApiVersion": "1.41"}
    with engine_telling(info, version) as url:
        refusing = DockerRuntime(url)
        assert refusing.profile().limits_ignored == ("pids",)
        with pytest.raises(RuntimeFailureError, match="pids") as failed:
            refusing.run(_spec(tmp_path, "sha256:" + "0" * 64, "true"), Sink(), threading.Event())
        refusing.close()
    assert failed.value.failure.code is FailureCode.HOST_REFUSED


def test_engine_that_maps_users_is_unfit_and_runs_nothing(tmp_path: Path) -> None:
    info = DOCKER_V1 | {"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}
    with engine_telling(info, DOCKER | {"ApiVersion": "1.41"}) as url:
        mapping = DockerRuntime(url)
        with pytest.raises(RuntimeFailureError, match="userns-remap") as failed:
            mapping.run(_spec(tmp_path, "sha256:" + "0" * 64, "true"), Sink(), threading.Event())
        watch = EngineWatch(mapping, home_id="home", keep=tuple, changed=lambda: None)
        watch.start()
        watch.stop()
        mapping.close()
    assert failed.value.failure.code is FailureCode.HOST_REFUSED
    hold = watch.hold()
    assert hold is not None
    assert (hold.code, hold.message) == ("engine_unfit", failed.value.failure.message)


@pytest.mark.docker
def test_container_of_a_rootless_engine_is_its_own_user_there_without_capabilities(
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    """The engine only says that it is rootless, with the cgroups that it needs for that: what a real one maps is not tried."""
    wire.unsaid.update(
        {
            b'"name=seccomp,profile=default"': b'"name=seccomp","name=rootless"',
            b'"CgroupVersion":"1"': b'"CgroupVersion":"2"',
        }
    )
    wired = DockerRuntime(wire.url)
    assert wired.profile().rootless
    sink, spec = Sink(), _spec(tmp_path, image_id, "sh", "-c", "mkdir /outputs/sub; id -u > /outputs/sub/who; grep Cap /proc/self/status")
    result = wired.run(spec, sink, threading.Event())
    wired.close()
    assert (result.failure, (spec.outputs_dir / "sub" / "who").read_text()) == (None, "0\n")
    assert wire.created()["User"] == "0:0"
    said = sink.output["stdout"].decode().split()
    assert set(said[1::2]) == {"0000000000000000"}
    assert folder_remove(spec.outputs_dir)


@pytest.mark.docker
def test_engine_with_labels_is_asked_for_them(wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    wire.unsaid[b'"name=seccomp,profile=default"'] = b'"name=seccomp","name=selinux" '
    wired = DockerRuntime(wire.url)
    spec = _spec(tmp_path, image_id, "sh", "-c", "cat /inputs/given > /outputs/taken; touch /inputs/refused || echo read-only")
    (spec.inputs_dir / "given").write_text("given")
    sink = Sink()
    result = wired.run(spec, sink, threading.Event())
    wired.close()
    assert (result.failure, (spec.outputs_dir / "taken").read_text(), sink.output["stdout"]) == (None, "given", b"read-only\n")
    assert wire.created()["HostConfig"]["Binds"] == [f"{spec.inputs_dir}:/inputs:ro,Z", f"{spec.outputs_dir}:/outputs:rw,Z"]


def test_container_that_the_engine_cannot_remove_keeps_neither_the_others_nor_the_host_from_going_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with engine_telling(DOCKER_V1, DOCKER | {"ApiVersion": "1.41"}, containers={"first": 500, "second": 200, "third": 409}) as url:
        troubled = DockerRuntime(url)
        watch = EngineWatch(troubled, home_id="home", keep=tuple, changed=lambda: None)
        watch.start()
        watch.stop()
        assert watch.hold() is None
        assert "container first was left and can't be removed" in caplog.text
        assert troubled.leftovers_remove("home") == 1  # "third", which another thread is removing; "second" is gone
        troubled.close()


def test_runtime_of_node_toml_is_asked_for_and_one_that_the_engine_lacks_is_refused(
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    wanting = DockerRuntime(wire.url, runtime="io.containerd.runc.v2")  # a runtime that is there and not the default one
    assert wanting.run(_spec(tmp_path, image_id, "true"), Sink(), threading.Event()).failure is None
    assert wanting.profile().runtime == "io.containerd.runc.v2"
    wanting.close()
    assert wire.created()["HostConfig"]["Runtime"] == "io.containerd.runc.v2"
    lacking = DockerRuntime(runtime="no-such-runtime")
    with pytest.raises(RuntimeFailureError, match="no-such-runtime") as refused:
        lacking.run(_spec(tmp_path, image_id, "true"), Sink(), threading.Event())
    lacking.close()
    assert refused.value.failure.code is FailureCode.HOST_REFUSED


def test_gpus_are_asked_for_by_uuid_and_one_that_is_absent_is_the_hosts_fault(
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    wired = DockerRuntime(wire.url)
    with pytest.raises(RuntimeFailureError) as failed:  # no such GPU here: creating succeeds, starting fails
        wired.run(dataclasses.replace(_spec(tmp_path, image_id, "true"), gpus=(GPU,)), Sink(), threading.Event())
    wired.close()
    assert failed.value.failure.code is FailureCode.HOST_ENGINE
    created = wire.created()
    (request,) = created["HostConfig"]["DeviceRequests"]
    assert (request["DeviceIDs"], request["Count"], request["Capabilities"]) == ([GPU.uuid], 0, [["gpu"]])
    assert f"NVIDIA_VISIBLE_DEVICES={GPU.uuid}" in created["Env"]
    assert created["User"] == "65534:65534"


def test_container_that_cannot_be_created_is_the_hosts_fault(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    spec = dataclasses.replace(_spec(tmp_path, image_id, "true"), name="no name for a container")
    with pytest.raises(RuntimeFailureError, match="create") as failed:
        runtime.run(spec, Sink(), threading.Event())
    assert failed.value.failure.code is FailureCode.HOST_ENGINE


def test_engine_lost_during_a_run_loses_the_run_and_its_container_is_followed_when_it_is_back(
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    wired, sink, lost = DockerRuntime(wire.url), Sink(), list[BaseException]()
    spec = _spec(tmp_path, image_id, "sh", "-c", "echo up; sleep 4; echo down; exit 3")

    def run() -> None:
        try:
            wired.run(spec, sink, threading.Event())
        except RunLostError as error:
            lost.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert sink.running.wait(20)
    wire.cut()
    thread.join(30)
    assert not thread.is_alive()
    wired.close()
    assert (len(lost), sink.output["stdout"], sink.results) == (1, b"up\n", [])

    again = Sink()
    result = runtime.adopt(spec, again, threading.Event())

    assert result is not None
    assert (result.exit_code, result.failure and result.failure.code) == (3, FailureCode.EXIT_NONZERO)
    assert (again.starts, again.output["stdout"], again.results) == ([True], b"down\n", [result])
    assert result.usage.wall_seconds > 3
