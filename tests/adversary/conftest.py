"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from devstack.images import tiny_image_ensure
from tests.adversary.arena import Arena


@pytest.fixture(scope="session")
def image_id() -> str:
    """An image with `sh` and Python."""
    client = docker.from_env()
    try:
        return tiny_image_ensure(client)
    finally:
        client.close()


@pytest.fixture
def arena(tmp_path: Path, image_id: str) -> Iterator[Arena]:
    arena = Arena(tmp_path, image_id)
    yield arena
    arena.close()
