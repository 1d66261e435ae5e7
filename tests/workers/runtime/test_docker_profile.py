"""What engines say of themselves, as recorded from several, and which of their limits are believed."""

from __future__ import annotations

import pytest

from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_profile import engine_profile, runtime_choose, selinux_labels, users_remapped
from workers.runtime.interface import RuntimeFailureError

ALL = {"MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True}
DOCKER_V1 = {**ALL, "CgroupDriver": "cgroupfs", "CgroupVersion": "1", "SecurityOptions": ["name=seccomp,profile=default"]}
DOCKER_V2 = {
    **ALL,
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
}
PODMAN_V2 = {**ALL, "CgroupDriver": "systemd", "CgroupVersion": "2", "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}
PODMAN_V1 = {**PODMAN_V2, "CgroupDriver": "cgroupfs", "CgroupVersion": "1"}
DOCKER = {
    "Version": "20.10.24+dfsg1",
    "Components": [{"Name": "Engine", "Version": "20.10.24+dfsg1"}, {"Name": "runc", "Version": "1.1.5"}],
}
PODMAN = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon", "Version": "2.1.6"}]}


@pytest.mark.parametrize(
    ("info", "version", "name", "cgroup_version", "rootless", "ignored"),
    [
        (DOCKER_V1, DOCKER, "docker", "1", False, ()),
        (DOCKER_V2, DOCKER, "docker", "2", False, ()),
        (PODMAN_V2, PODMAN, "podman", "2", True, ()),
        (PODMAN_V1, PODMAN, "podman", "1", True, ("memory", "pids", "cpus")),
        (PODMAN_V2 | {"CgroupDriver": "none"}, DOCKER, "docker", "2", True, ("memory", "pids", "cpus")),
        (DOCKER_V1 | {"SwapLimit": False}, DOCKER, "docker", "1", False, ("swap",)),
        (DOCKER_V2 | {"PidsLimit": False}, DOCKER, "docker", "2", False, ("pids",)),
        (DOCKER_V2 | {"CpuCfsQuota": False}, DOCKER, "docker", "2", False, ("cpus",)),
        (DOCKER_V2 | {"MemoryLimit": False, "SwapLimit": False}, DOCKER, "docker", "2", False, ("memory",)),
        ({}, {}, "docker", "unknown", False, ("memory", "pids", "cpus", "seccomp")),
        (DOCKER_V1 | {"SecurityOptions": []}, DOCKER, "docker", "1", False, ("seccomp",)),
        (DOCKER_V1 | {"SecurityOptions": None}, DOCKER, "docker", "1", False, ("seccomp",)),
        (DOCKER_V2 | {"SecurityOptions": ["name=seccomp,profile=unconfined"]}, DOCKER, "docker", "2", False, ("seccomp",)),
        (DOCKER_V2 | {"SecurityOptions": ["name=apparmor", "name=selinux,profile=default"]}, DOCKER, "docker", "2", False, ("seccomp",)),
        (DOCKER_V2 | {"SecurityOptions": ["name=seccomp,profile=/etc/docker/strict.json"]}, DOCKER, "docker", "2", False, ()),
        (DOCKER_V2 | {"SecurityOptions": ["name=seccomp"]}, DOCKER, "docker", "2", False, ()),
    ],
)
def test_engine_is_known_with_the_limits_it_ignores(  # noqa: PLR0917  parameters of pytest
    info: dict[str, object], version: dict[str, object], name: str, cgroup_version: str, rootless: bool, ignored: tuple[str, ...]
) -> None:
    profile = engine_profile(info, version, swap_bytes=2**30)
    assert (profile.name, profile.cgroup_version, profile.rootless, profile.limits_ignored) == (name, cgroup_version, rootless, ignored)
    assert profile.version == version.get("Version", "")


def test_swap_that_the_machine_lacks_needs_no_limit() -> None:
    assert engine_profile(DOCKER_V1 | {"SwapLimit": False}, DOCKER, swap_bytes=0).limits_ignored == ()


@pytest.mark.parametrize(
    ("options", "remapped", "labels"),
    [
        (["name=seccomp,profile=builtin", "name=userns"], True, False),
        (["name=seccomp,profile=builtin", "name=selinux"], False, True),
        (["name=seccomp,profile=builtin", "name=userns", "name=rootless"], False, False),
        (["name=seccomp,profile=userns", "name=cgroupns"], False, False),
        (None, False, False),
    ],
)
def test_engine_that_maps_users_or_labels_files_says_so(options: list[str] | None, remapped: bool, labels: bool) -> None:
    info = DOCKER_V2 | {"SecurityOptions": options}
    assert (users_remapped(info), selinux_labels(info)) == (remapped, labels)


RUNC, GVISOR, NVIDIA = ({name: {"path": f"/usr/bin/{name}"}} for name in ("runc", "runsc", "nvidia"))
NEITHER = {"Runtimes": RUNC, "DefaultRuntime": "runc"}
BOTH = {"Runtimes": RUNC | GVISOR, "DefaultRuntime": "runc"}
GPUS = {"Runtimes": RUNC | GVISOR | NVIDIA, "DefaultRuntime": "nvidia"}
GVISOR_ONLY = {"Runtimes": GVISOR, "DefaultRuntime": "runsc"}


@pytest.mark.parametrize(
    ("told", "wanted", "asked", "shown"),
    [
        (BOTH, "auto", "runsc", "runsc"),
        (BOTH, "runc", None, "runc"),
        (BOTH, "runsc", "runsc", "runsc"),
        (GPUS, "auto", None, "nvidia"),
        (GPUS, "runsc", "runsc", "runsc"),
        (GPUS, "runc", "runc", "runc"),
        (GVISOR_ONLY, "auto", None, "runsc"),
        (NEITHER, "auto", None, "runc"),
        ({}, "auto", None, ""),
        ({"Runtimes": None}, "auto", None, ""),
    ],
)
def test_gvisor_runs_containers_where_it_is_and_may(told: dict[str, object], wanted: str, asked: str | None, shown: str) -> None:
    info = DOCKER_V2 | told
    assert runtime_choose(info, wanted) == asked
    profile = engine_profile(info, DOCKER, swap_bytes=0, runtime=runtime_choose(info, wanted))
    assert profile.runtime == shown
    assert profile.title == f"docker 20.10.24+dfsg1{f' ({shown})' if shown else ''}"


@pytest.mark.parametrize("told", [NEITHER, {}])
def test_runtime_that_is_wanted_and_not_there_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(RuntimeFailureError, match=r"\[sandbox\]") as refused:
        runtime_choose(DOCKER_V2 | told, "runsc")
    assert refused.value.failure.code is FailureCode.HOST_REFUSED
