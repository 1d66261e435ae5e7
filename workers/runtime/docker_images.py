"""Images of a Docker engine: present by id, or pulled by digest."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from workers.protocol.messages import FailureCode, ImageReference
from workers.runtime.interface import PullProgress, RuntimeFailureError

ENGINE_ERRORS = (DockerException, RequestException, OSError)
_LOOK_SECONDS = 0.1


def image_present(client: docker.APIClient, image: ImageReference) -> str | None:
    """The id of an image that the engine has, or None. Raises RuntimeFailureError: `host_engine`, `image_unavailable`."""
    try:
        inspected = client.inspect_image(image.pull or image.image_id)  # type: ignore[no-untyped-call]  # the SDK's decorator hides it
        found = str(inspected["Id"])
    except ImageNotFound:
        return None
    except ENGINE_ERRORS as error:
        raise RuntimeFailureError(
            FailureCode.HOST_ENGINE, f"The container engine can't be asked for an image: {type(error).__name__}."
        ) from error
    if image.image_id is not None and found != image.image_id:
        raise RuntimeFailureError(
            FailureCode.IMAGE_UNAVAILABLE, f"{image.pull or image.name} should be the image {image.image_id}; it is {found}."
        )
    return found


def image_pull(
    client: docker.APIClient, reference: str, *, cancel: threading.Event, report: Callable[[PullProgress], None], timeout_seconds: float
) -> None:
    """Pull `name@sha256:…`, reporting each step. Raises RuntimeFailureError: `image_unavailable`, `host_engine`, `cancelled`.

    When cancelled it returns at once; the engine notices at its next message, when the connection is closed.
    """
    messages: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=_pull, args=(client, reference, messages, stop), name="image-pull", daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout_seconds
    layers: dict[str, tuple[int, int]] = {}
    try:
        while True:
            if cancel.is_set():
                raise RuntimeFailureError(FailureCode.CANCELLED, "Cancelled while the image was pulled.")
            if time.monotonic() > deadline:
                raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"{reference} was not pulled within {timeout_seconds:g} s.")
            try:
                message = messages.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            match message:
                case None:
                    return
                case APIError() | ImageNotFound():
                    raise RuntimeFailureError(
                        FailureCode.IMAGE_UNAVAILABLE, f"{reference} can't be pulled: {message.explanation}"
                    ) from message
                case Exception():
                    raise RuntimeFailureError(
                        FailureCode.HOST_ENGINE, f"The container engine broke off a pull: {type(message).__name__}."
                    ) from message
                case {"error": reason}:
                    raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"{reference} can't be pulled: {reason}")
                case _:
                    detail = message.get("progressDetail") or {}
                    if "id" in message and detail.get("total"):
                        layers[message["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
                    done, total = (sum(layer[part] for layer in layers.values()) for part in (0, 1))
                    report(PullProgress(str(message.get("status", "")), done, total))
    finally:
        stop.set()


def _pull(client: docker.APIClient, reference: str, messages: queue.Queue[Any], stop: threading.Event) -> None:
    name, _, digest = reference.partition("@")
    try:
        for message in client.pull(name, tag=digest, stream=True, decode=True):
            messages.put(message)
            if stop.is_set():
                return
        messages.put(None)
    except ENGINE_ERRORS as error:
        messages.put(error)
