"""Images of a Docker engine: present by id, or pulled by digest."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from requests import Response
from requests.exceptions import RequestException

from workers.backoff import Backoff
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.interface import PullProgress, RuntimeFailureError

ENGINE_ERRORS = (DockerException, RequestException, OSError)
_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 1.0
_PAUSE_SECONDS_MAX: Final = 30.0
AWAY_SECONDS_MAX: Final = 1800.0
"""A registry from which nothing came for so long is given up, however much time there is: its name may be wrong for ever."""
SILENCE_SECONDS_MAX: Final = 300.0
"""A pull of which the engine tells nothing for so long has stalled: a connection that nobody closes says nothing."""
_AWAY: Final = re.compile(
    r"connection refused|connection reset|no such host|no route to host|network is unreachable|server misbehaving|temporary failure"
    r"|time(d )?-?out|deadline exceeded|\bEOF\b|unexpected HTTP status: 5|too ?many ?requests|broken pipe|request canceled",
    re.IGNORECASE,
)
"""How engines say that a registry can't be reached now. Anything else they say is an answer."""
_FULL: Final = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)


class RegistryAwayError(Exception):
    """The registry gave no answer: worth another try."""


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
    connect: Callable[[], docker.APIClient],
    reference: str,
    *,
    cancel: threading.Event,
    report: Callable[[PullProgress], None],
    watch: Callable[[PullProgress], None] = lambda _: None,
    timeout_seconds: float,
) -> None:
    """Pull `name@sha256:…`, reporting each step; a registry that is away is tried again, less and less often, for half an hour or until
    the time is up. Layers that have come whole are not fetched again.

    `watch` is asked several times a second, and ends the pull by an error of its own. Given up, for whatever reason, it returns at once,
    and the engine stops with the connection. Raises RuntimeFailureError: `image_unavailable`, `host_engine`, `host_disk`, `cancelled`.
    """
    began = heard = time.monotonic()
    furthest = 0
    backoff = Backoff(longest_seconds=_PAUSE_SECONDS_MAX)
    while True:
        pull = _Pull(connect(), reference)
        try:
            pull.follow(cancel, began + timeout_seconds, report, watch)
        except RegistryAwayError as error:
            if pull.progress.done_bytes > furthest:  # a layer that breaks off at the same byte each time is no progress
                heard, furthest = time.monotonic(), pull.progress.done_bytes
                backoff.worked()
            pause_seconds = backoff.failed()
            now = time.monotonic()
            if now + pause_seconds > min(began + timeout_seconds, heard + AWAY_SECONDS_MAX):
                message = f"{reference} was not pulled within {now - began:.1f} s: {error}"
                raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, message) from error
            report(PullProgress(f"The registry is away; trying again ({error})"[:200], 0, 0))
            if cancel.wait(pause_seconds):
                raise _cancelled() from error
        else:
            return
        finally:
            pull.end()


class _Pull:
    """One try, over a connection of its own: a thread reads what the engine tells, and the caller's looks at that and at the clock."""

    def __init__(self, client: docker.APIClient, reference: str) -> None:
        self._client = client
        self._reference = reference
        self._messages: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()
        self._answers: list[Response] = []
        self._over = threading.Event()
        self.progress = PullProgress("", 0, 0)
        """What the engine has told last."""
        # The SDK gives no handle on an answer that it streams, and a blocked read of it has to be ended.
        client.hooks["response"].append(lambda answer, *_, **__: self._answers.append(answer))
        self._thread = threading.Thread(target=self._read, name="image-pull", daemon=True)
        self._thread.start()

    def follow(
        self,
        cancel: threading.Event,
        deadline: float,
        report: Callable[[PullProgress], None],
        watch: Callable[[PullProgress], None],
    ) -> None:
        """Return when the engine has the image. Raises RegistryAwayError, RuntimeFailureError."""
        layers: dict[str, tuple[int, int]] = {}
        told = time.monotonic()
        while True:
            if cancel.is_set():
                raise _cancelled()
            if time.monotonic() > told + SILENCE_SECONDS_MAX:
                raise RegistryAwayError(f"nothing came for {SILENCE_SECONDS_MAX:g} s")
            if time.monotonic() > deadline:
                raise RegistryAwayError("it was still on its way")
            watch(self.progress)
            try:
                message = self._messages.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            told = time.monotonic()
            if message is None:
                return
            if isinstance(message, Exception):
                raise self._failure(message) from message
            if "error" in message:
                raise _refusal(self._reference, str(message["error"]))
            detail = message.get("progressDetail") or {}
            if "id" in message and detail.get("total"):
                layers[message["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
            done, total = (sum(layer[part] for layer in layers.values()) for part in (0, 1))
            self.progress = PullProgress(str(message.get("status", "")), done, total)
            report(self.progress)

    def end(self) -> None:
        """Close the connection. An engine that has not answered at all yet is left to a thread that closes it when it does."""
        self._over.set()
        for answer in self._answers:
            with suppress(RuntimeError, ValueError, OSError):  # it has ended by itself
                answer.raw.shutdown()
        self._thread.join(_END_SECONDS)

    def _read(self) -> None:
        name, _, digest = self._reference.partition("@")
        try:
            for message in self._client.pull(name, tag=digest, stream=True, decode=True):
                self._messages.put(message)
                if self._over.is_set():
                    break
            self._messages.put(None)
        except Exception as error:
            self._messages.put(error)
        finally:
            for answer in self._answers:
                answer.close()
            self._client.close()

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, APIError):
            return _refusal(self._reference, str(error.explanation))
        return RuntimeFailureError(FailureCode.HOST_ENGINE, f"The container engine broke off a pull: {type(error).__name__}.")


def _refusal(reference: str, reason: str) -> Exception:
    if _FULL.search(reason):
        return RuntimeFailureError(FailureCode.HOST_DISK, f"The host's disk has no room for {reference}.")
    if _AWAY.search(reason):
        return RegistryAwayError(reason)
    return RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"{reference} can't be pulled: {reason}")


def _cancelled() -> RuntimeFailureError:
    return RuntimeFailureError(FailureCode.CANCELLED, "Cancelled while the image was pulled.")
