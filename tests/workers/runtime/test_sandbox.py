"""The sandbox as data: what the engine is told of a run, flag by flag, and that nothing else is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.runtime.interface import RunSpec
from workers.runtime.sandbox import CONTAINER_USER, container_arguments, host_config_arguments

LIMITS = Limits(wall_seconds=60, memory_bytes=512 * 2**20, cpus=1.5, pids=50, disk_bytes=64 * 2**20, output_bytes=32 * 2**20)
GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="Stub", memory_bytes=8 << 30, driver_version="550.1") for index in (0, 2))


def _spec(*, limits: Limits = LIMITS, gpus: tuple[Gpu, ...] = (), environment: Mapping[str, str] | None = None) -> RunSpec:
    return RunSpec(
        name="nexapod-1",
        labels={"nexapod.home": "h", "nexapod.lease": "l"},
        image_id="sha256:" + "1" * 64,
        command=("run", "it"),
        environment=environment or {},
        inputs_dir=Path("/home/x/inputs"),
        outputs_dir=Path("/home/x/outputs"),
        limits=limits,
        gpus=gpus,
    )


def _sent(spec: RunSpec, **kwargs: Any) -> dict[str, Any]:
    """The HostConfig as the SDK sends it: its own reading of the arguments is part of what is tested."""
    client = docker.APIClient("tcp://127.0.0.1:1", version="1.41")
    try:
        return dict(client.create_host_config(**host_config_arguments(spec, **kwargs)))
    finally:
        client.close()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("NetworkMode", "none"),
        ("ReadonlyRootfs", True),
        ("CapDrop", ["ALL"]),
        ("SecurityOpt", ["no-new-privileges"]),  # and no seccomp or apparmor option: the engine's default filters hold
        ("PidsLimit", 50),
        ("Memory", 512 * 2**20),
        ("MemorySwap", 512 * 2**20),  # memory and swap together: no swap
        ("NanoCpus", 1_500_000_000),
        ("ShmSize", 64 * 2**20),
        ("Init", True),
        ("IpcMode", "private"),
        ("RestartPolicy", {"Name": "no"}),
        ("LogConfig", {"Type": "none", "Config": {}}),
        (
            "Ulimits",
            [
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "nofile", "Soft": 16384, "Hard": 16384},
                {"Name": "fsize", "Soft": 64 * 2**20, "Hard": 64 * 2**20},
            ],
        ),
        (
            "Mounts",
            [
                {"Target": "/inputs", "Source": "/home/x/inputs", "Type": "bind", "ReadOnly": True},
                {"Target": "/outputs", "Source": "/home/x/outputs", "Type": "bind", "ReadOnly": False},
            ],
        ),
        ("Tmpfs", {"/tmp": "rw,nosuid,nodev,mode=1777,size=67108864,nr_inodes=65536"}),  # noqa: S108  a path inside of the container
    ],
)
def test_engine_is_told_each_restriction(field: str, expected: object) -> None:
    assert _sent(_spec())[field] == expected


def test_engine_is_told_of_nothing_that_opens_the_sandbox() -> None:
    sent = _sent(_spec())
    opening = ("Privileged", "Devices", "DeviceRequests", "CapAdd", "Binds", "VolumesFrom", "PidMode", "UsernsMode", "UTSMode", "GroupAdd")
    assert {name: sent[name] for name in opening if sent.get(name)} == {}
    assert not {"PortBindings", "PublishAllPorts", "ExtraHosts", "Links", "OomScoreAdj", "OomKillDisable", "Runtime", "Sysctls"} & {
        name for name, value in sent.items() if value
    }


def test_folders_get_the_label_of_their_container_where_there_are_labels() -> None:
    labelled, ordinary = _sent(_spec(), selinux=True), _sent(_spec())
    assert labelled.pop("Binds") == ["/home/x/inputs:/inputs:ro,Z", "/home/x/outputs:/outputs:rw,Z"]
    assert "Binds" not in ordinary
    assert [mount["Target"] for mount in ordinary.pop("Mounts")] == ["/inputs", "/outputs"]
    assert labelled == ordinary  # and nothing else differs: what SELinux keeps from containers stays kept from them


def test_volumes_of_an_image_become_bounded_memory_and_never_replace_ours() -> None:
    tmpfs = _sent(_spec(), volumes=["/data", "/outputs/", "/inputs", "/tmp"])["Tmpfs"]  # noqa: S108  paths inside of the container
    assert set(tmpfs) == {"/tmp", "/data"}  # noqa: S108  as above
    assert tmpfs["/data"] == tmpfs["/tmp"]  # noqa: S108  as above


def test_granted_gpus_are_requested_by_uuid_and_no_others() -> None:
    (request,) = _sent(_spec(gpus=GPUS))["DeviceRequests"]
    assert request == {"Driver": "", "Count": 0, "DeviceIDs": ["GPU-0", "GPU-2"], "Capabilities": [["gpu"]], "Options": {}}
    environment = container_arguments(_spec(gpus=GPUS, environment={"NVIDIA_VISIBLE_DEVICES": "all"}), user=CONTAINER_USER)["environment"]
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "GPU-0,GPU-2"


def test_run_without_gpus_is_told_that_it_has_none() -> None:
    arguments = container_arguments(_spec(environment={"NVIDIA_VISIBLE_DEVICES": "all"}), user=CONTAINER_USER)
    assert arguments["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_container_is_nobody_without_a_terminal_or_health_checks() -> None:
    assert container_arguments(_spec(), user=CONTAINER_USER) == {
        "image": "sha256:" + "1" * 64,
        "command": ["run", "it"],
        "name": "nexapod-1",
        "labels": {"nexapod.home": "h", "nexapod.lease": "l"},
        "environment": {
            "NEXA_INPUTS": "/inputs",
            "NEXA_OUTPUTS": "/outputs",
            "HOME": "/tmp",  # noqa: S108  a path inside of the container
            "TMPDIR": "/tmp",  # noqa: S108  as above
            "NVIDIA_VISIBLE_DEVICES": "void",
        },
        "user": "65534:65534",
        "hostname": "container",
        "network_disabled": True,
        "stdin_open": False,
        "tty": False,
        "healthcheck": {"test": ["NONE"]},
    }


@given(st.dictionaries(st.sampled_from(["NEXA_INPUTS", "NEXA_OUTPUTS", "HOME", "TMPDIR", "NVIDIA_VISIBLE_DEVICES", "PATH"]), st.text()))
def test_no_environment_of_an_order_replaces_ours(environment: dict[str, str]) -> None:
    given_none = container_arguments(_spec(), user=CONTAINER_USER)["environment"]
    found = container_arguments(_spec(environment=environment), user=CONTAINER_USER)["environment"]
    assert {name: found[name] for name in given_none} == given_none
    assert found.get("PATH") == environment.get("PATH")


@given(
    st.builds(
        Limits,
        wall_seconds=st.just(60),
        memory_bytes=st.integers(2**24, 2**40),
        cpus=st.floats(0.1, 64),
        pids=st.integers(16, 1000),
        disk_bytes=st.integers(2**20, 2**40),
        output_bytes=st.integers(2**20, 2**36),
    )
)
def test_memory_held_by_filesystems_never_exceeds_the_containers(limits: Limits) -> None:
    sent = _sent(_spec(limits=limits))
    tmp_bytes = int(dict(part.split("=") for part in sent["Tmpfs"]["/tmp"].split(",") if "=" in part)["size"])  # noqa: S108  as above
    assert tmp_bytes <= sent["Memory"] == sent["MemorySwap"]
    assert sent["ShmSize"] <= sent["Memory"] // 4
    assert sent["NanoCpus"] > 0
