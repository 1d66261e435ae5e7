"""What a build leaves behind: the image that had the name before it, nameless now, some hundred megabytes each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import docker
from docker.errors import APIError, ImageNotFound

SERVICE_LABEL: Final = "nexapod.image"
"""Every Dockerfile below infra/ sets it: the service."""
DIGEST_LABEL: Final = "nexapod.build-digest"
"""Of a workload's image: over what it was built from."""


@contextlib.contextmanager
def replaced_removed(client: docker.DockerClient, *tags: str) -> Iterator[None]:
    """Removes, after what is done within, the images that had `tags` before, where others have them now.

    Only images with a label of ours, without another name, and of which no container is: what is in use, or not ours, stays. After a
    failure nothing is removed.
    """
    before = {tag: _id_of(client, tag) for tag in tags}
    yield
    for image_id in {had for tag, had in before.items() if had is not None and had != _id_of(client, tag)}:
        with contextlib.suppress(ImageNotFound, APIError):  # gone already; or a container is of it
            image = client.images.get(image_id)
            if not image.tags and {SERVICE_LABEL, DIGEST_LABEL} & set(image.labels):
                client.images.remove(image_id)


def _id_of(client: docker.DockerClient, tag: str) -> str | None:
    try:
        return client.images.get(tag).id
    except ImageNotFound:
        return None
