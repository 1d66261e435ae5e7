"""The host's image, built and run: a worker in a container that has sibling containers work for it, as a user who is not root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from devstack.images import base_image_ensure, tiny_image_ensure
from devstack.service_images import service_image_build
from tests.workers.homes import home_make
from tests.workers.portal_fake import FakePortal
from tests.workers.runtime.engines import ENGINE_SOCKET
from workers.home import NodeHome
from workers.protocol.messages.order import ImageReference
from workers.runtime.docker_engine import DockerRuntime

TAG = "nexapod/host:test"
USER_ID = 10001
"""Of the Dockerfile."""

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client: docker.DockerClient) -> str:
    return service_image_build(client, service="host", tag=TAG)


@pytest.fixture
def home(tmp_path: Path, portal: FakePortal) -> NodeHome:
    """A node home that belongs to the user that the container runs as."""
    home = home_make(tmp_path / "home", portal, settings="[worker]\ndrain_seconds = 5\nreport_seconds = 3\n")
    home.profile_write(home.profile().model_copy(update={"engine": DockerRuntime().profile()}))
    if os.geteuid() == 0:
        for path in (home.folder, *home.folder.rglob("*")):
            os.chown(path, USER_ID, USER_ID)
    return home


@contextmanager
def host(client: docker.DockerClient, image: str, *arguments: str, home: NodeHome, inside: str | None = None) -> Iterator[Container]:
    """`nexa ARGUMENTS` in a container that reaches the engine and, by the machine's own network, a portal on it."""
    path = inside or str(home.folder)
    container = client.containers.run(
        image,
        list(arguments),
        detach=True,
        user=None if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}",
        group_add=[str(Path(ENGINE_SOCKET).stat().st_gid)],
        network_mode="host",
        environment={"NEXA_HOME": path},
        healthcheck={"interval": 10**9},  # the image's check, asked once a second
        volumes=[f"{ENGINE_SOCKET}:/var/run/docker.sock", f"{home.folder}:{path}"],
    )
    try:
        yield container
    finally:
        container.remove(force=True)


def ended(container: Container) -> tuple[int, str]:
    status = int(container.wait(timeout=60)["StatusCode"])
    return status, container.logs(stderr=False).decode()


def told(container: Container, *command: str) -> str:
    """What a command in the running container prints."""
    output = container.exec_run(list(command), stderr=False).output
    assert isinstance(output, bytes)
    return output.decode()


def health(container: Container) -> str:
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])


def findings(output: str) -> dict[str, Any]:
    return {finding["check"]: finding for finding in json.loads(output)}


def test_worker_in_a_container_runs_orders_beside_it(client: docker.DockerClient, image: str, home: NodeHome, portal: FakePortal) -> None:
    wanted = ImageReference(name="nexapod/tiny", image_id=tiny_image_ensure(client))
    command = ("sh", "-c", "id -u > /outputs/who; echo forty-two > /outputs/result.txt")
    with host(client, image, "worker", home=home) as container:
        order = portal.order_add(portal.order_make(home_key(home, portal), *command, image=wanted))
        portal.wait_for(lambda: order.replica_id in portal.receipts or _gone(container), "the receipt", seconds=120)
        assert order.replica_id in portal.receipts, container.logs().decode()
        receipt = portal.receipts[order.replica_id][1]
        assert receipt.outcome == "completed", receipt.failure
        assert receipt.archive is not None
        assert b"forty-two" in portal.blobs[receipt.archive.digest]
        assert told(container, "id", "-u").strip() == str(USER_ID if os.geteuid() == 0 else os.geteuid())

        found = findings(told(container, "nexa", "doctor", "--json"))
        assert {check for check, finding in found.items() if finding["level"] == "fail"} == set()
        assert (found["mounts"]["level"], found["worker"]["level"], found["standing"]["level"]) == ("ok", "ok", "ok")
        portal.wait_for(lambda: health(container) == "healthy", "the image's own health check", seconds=60)

        container.stop(timeout=60)
        assert ended(container)[0] == 0


def test_profile_and_doctor_work_before_joining(client: docker.DockerClient, image: str, home: NodeHome) -> None:
    home.forget()
    with host(client, image, "profile", "--json", home=home) as container:
        status, output = ended(container)
    assert status == 0
    assert json.loads(output)["engine"] == json.loads(DockerRuntime().profile().model_dump_json())
    with host(client, image, "status", "--check", home=home) as container:
        assert ended(container)[0] == 1


def test_home_at_another_path_inside_is_told(client: docker.DockerClient, image: str, home: NodeHome) -> None:
    with host(client, image, "doctor", "--json", home=home, inside="/srv/elsewhere") as container:
        status, output = ended(container)
    mounts = findings(output)["mounts"]
    assert (status, mounts["level"]) == (1, "fail")
    assert str(home.folder) in mounts["found"]


def test_image_is_lean(client: docker.DockerClient, image: str) -> None:
    base = client.images.get(base_image_ensure(client, report=print))
    grown_bytes = client.images.get(image).attrs["Size"] - base.attrs["Size"]
    print(f"the host's image: {grown_bytes / 1e6:.0f} MB on top of a base of {base.attrs['Size'] / 1e6:.0f} MB")
    assert grown_bytes < 125e6


def home_key(home: NodeHome, portal: FakePortal) -> Any:
    return portal.nodes[home.identity().key_id]


def _gone(container: Container) -> bool:
    container.reload()
    return bool(container.status == "exited")
