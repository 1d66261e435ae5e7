"""Checks of the engine: the real one, one that is not there, and ones that say of themselves what no engine for jobs should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.workers.doctor.small_disk import FOLDER, checked_on_disk
from tests.workers.runtime.engines import engine_telling
from tests.workers.runtime.test_docker_profile import DOCKER, DOCKER_V1, DOCKER_V2, PODMAN, PODMAN_V1
from workers.doctor.engine import (
    STORAGE_BYTES_GOOD,
    STORAGE_BYTES_MIN,
    EngineAnswer,
    container_id,
    engine_ask,
    engine_check,
    limits_check,
    mounts_check,
    seccomp_check,
    storage_check,
    users_check,
)
from workers.doctor.findings import Level

VERSION = DOCKER | {"ApiVersion": "1.41"}
HOME = Path("/srv/nexa/home")


def answer_of(info: dict[str, Any] = DOCKER_V2, version: dict[str, Any] = VERSION) -> EngineAnswer:
    return EngineAnswer(info=info, version=version)


def mounted(*mounts: tuple[str, str]) -> EngineAnswer:
    return EngineAnswer({}, {}, own_mounts=[{"Source": source, "Destination": target} for source, target in mounts])


@pytest.mark.docker
def test_engine_of_this_machine_is_fit() -> None:
    answer = engine_ask()
    assert isinstance(answer, EngineAnswer)
    assert engine_check(answer).level is Level.OK
    assert limits_check(answer).level is Level.OK
    assert seccomp_check(answer).level is Level.OK
    assert users_check(answer).level is Level.OK
    assert storage_check(answer).check == "storage"
    assert "runc" in answer.runtimes


@pytest.mark.parametrize("where", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", where)
    answer = engine_ask()
    assert isinstance(answer, str)
    finding = engine_check(answer)
    assert finding.level is Level.FAIL
    assert "usermod -aG docker" in finding.advice


def test_engine_elsewhere_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_telling(DOCKER_V1, VERSION) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        answer = engine_ask()
    assert isinstance(answer, EngineAnswer)
    finding = engine_check(answer)
    assert (finding.level, finding.found) == (Level.OK, "docker 20.10.24+dfsg1, API 1.41, cgroup v1")


@pytest.mark.parametrize("api", ["1.40", "", "one.two"])
def test_engine_that_is_too_old(api: str) -> None:
    finding = engine_check(answer_of(version=DOCKER | {"ApiVersion": api}))
    assert finding.level is Level.FAIL
    assert "Docker Engine 20.10" in finding.advice


def test_engine_that_would_ignore_limits() -> None:
    finding = limits_check(answer_of(PODMAN_V1, PODMAN))
    assert finding.level is Level.FAIL
    assert "memory, pids, cpus" in finding.found
    assert "cgroup v2" in finding.advice


def test_swap_that_is_not_counted_matters_where_there_is_swap() -> None:
    expected = Level.FAIL if psutil.swap_memory().total else Level.OK
    assert limits_check(answer_of(DOCKER_V2 | {"SwapLimit": False})).level is expected


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (["name=seccomp,profile=builtin", "name=cgroupns"], Level.OK),
        (["name=apparmor", "name=seccomp,profile=default"], Level.OK),
        (["name=seccomp,profile=unconfined"], Level.FAIL),
        (["name=apparmor"], Level.FAIL),
        ([], Level.FAIL),
        (None, Level.FAIL),
    ],
)
def test_filter_of_system_calls(options: list[str] | None, level: Level) -> None:
    finding = seccomp_check(answer_of({"SecurityOptions": options}))
    assert finding.level is level
    assert bool(finding.advice) == (level is Level.FAIL)


def test_users_of_containers_that_are_mapped_to_others() -> None:
    finding = users_check(answer_of(DOCKER_V2 | {"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}))
    assert finding.level is Level.FAIL
    assert "daemon.json" in finding.advice
    assert users_check(answer_of()).level is Level.OK


@pytest.mark.docker  # whoever may run an engine here may mount, which a small disk needs
@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (STORAGE_BYTES_MIN // 2, "fail 1.0 GiB free for images under /mnt: Make room: `docker image prune`"),
        (STORAGE_BYTES_MIN * 2, "warn 4.0 GiB free for images under /mnt: Images of jobs have some gigabytes each"),
        (STORAGE_BYTES_GOOD * 2, "ok 20.0 GiB free for images under /mnt: "),
    ],
)
def test_room_for_images(size_bytes: int, said: str) -> None:
    program = (
        "from workers.doctor.engine import EngineAnswer, storage_check;"
        f"finding = storage_check(EngineAnswer({{'DockerRootDir': {FOLDER!r}}}, {{}}));"
        "print(f'{finding.level} {finding.found}: {finding.advice}')"
    )
    assert f"{checked_on_disk(size_bytes, program)} ".startswith(said)


def test_engine_in_a_virtual_machine_keeps_its_room_to_itself(tmp_path: Path) -> None:
    finding = storage_check(answer_of({"DockerRootDir": str(tmp_path / "not-here")}))
    assert finding.level is Level.OK
    assert "can't be seen" in finding.found


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (mounted(("/srv/nexa/home", "/srv/nexa/home")), Level.OK, "same folder"),
        (mounted(("/srv", "/srv"), ("/var/run/docker.sock", "/var/run/docker.sock")), Level.OK, "same folder"),
        (mounted(("/home/ada/nexa", "/srv/nexa")), Level.FAIL, "is /home/ada/nexa/home on the machine"),
        (mounted(("/srv", "/srv"), ("/volumes/1", "/srv/nexa/home")), Level.FAIL, "is /volumes/1 on the machine"),
        (mounted(("/srv/nexa", "/srv/nexa/ho")), Level.FAIL, "is not mounted"),
        (mounted(), Level.FAIL, "is not mounted"),
    ],
)
def test_host_in_a_container_needs_its_home_at_the_same_path(answer: EngineAnswer, level: Level, said: str) -> None:
    finding = mounts_check(answer, HOME)
    assert finding is not None
    assert finding.level is level
    assert said in finding.found
    assert ("--volume /srv/nexa/home:/srv/nexa/home" in finding.advice) == (level is Level.FAIL)


@pytest.mark.parametrize(
    "line",
    [
        "751 740 254:0 /var/lib/docker/containers/{}/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw",
        "809 798 0:48 /containers/storage/overlay-containers/{}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw",
    ],
)
def test_containers_id_is_read_from_its_mounts(line: str) -> None:
    own = "5f" * 32
    others = "730 724 0:45 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC\n"
    assert container_id(others + line.format(own)) == own
    assert container_id(others) is None


def test_host_outside_a_container_has_no_such_worry() -> None:
    assert mounts_check(answer_of(), HOME) is None
