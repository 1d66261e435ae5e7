"""The proxy's image, built once, and a proxy that no test changes."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from devstack.service_images import service_image_build
from tests.infra.edge import Edge


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def proxy_image(client: docker.DockerClient) -> str:
    return service_image_build(client, service="proxy", tag="nexapod/proxy:test")


@pytest.fixture(scope="session")
def edge(client: docker.DockerClient, proxy_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(client, proxy_image, tmp_path_factory.mktemp("secrets")) as edge:
        yield edge
