"""What an image is made of: read from one of ours, both kinds of packages, the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from devstack.bill import image_bill
from devstack.service_images import service_image_build

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600), pytest.mark.xdist_group("host image")]


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def test_a_bill_lists_what_was_installed_as_it_was_locked_and_is_the_same_again(client: docker.DockerClient) -> None:
    image = service_image_build(client, service="host", tag="nexapod/host:test")
    bill = image_bill(client, image)
    found = json.loads(bill)
    purls = [one["purl"] for one in found["components"]]
    locked = Path("workers/requirements.txt").read_text()
    (celery,) = [purl for purl in purls if purl.startswith("pkg:pypi/celery@")]
    assert celery.removeprefix("pkg:pypi/").replace("@", "==") + " " in locked
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in purls)
    assert (found["specVersion"], found["metadata"]["component"]["version"]) == ("1.6", client.images.get(image).id)
    assert image_bill(client, image) == bill


def test_an_image_that_is_not_here_has_no_bill(client: docker.DockerClient) -> None:
    with pytest.raises(ImageNotFound):
        image_bill(client, "nexapod/nothing-of-the-kind:0")
