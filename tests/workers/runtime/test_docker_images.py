"""Images pulled by digest: a real engine, and a registry of the test's own."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator

import docker
import pytest
from docker.errors import ImageNotFound

from tests.workers.runtime.registry import Registry
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import FailureCode
from workers.runtime import docker_images
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import PullProgress, RuntimeFailureError

pytestmark = pytest.mark.docker


@pytest.fixture
def runtime() -> Iterator[DockerRuntime]:
    made = DockerRuntime()
    yield made
    made.close()
    gc.collect()  # a pull that was given up leaves its answer to the collector: let it be found here


@contextlib.contextmanager
def _removed(image_id: str) -> Iterator[None]:
    client = docker.APIClient(version="auto")
    try:
        yield
    finally:
        with contextlib.suppress(ImageNotFound):
            client.remove_image(image_id, force=True)
        client.close()


def _ensure(
    runtime: DockerRuntime,
    reference: str,
    *,
    image_id: str | None = None,
    cancel: threading.Event | None = None,
    seen: list[PullProgress] | None = None,
    timeout_seconds: float = 60.0,
) -> str:
    return runtime.image_ensure(
        ImageReference(name="small", pull=reference, image_id=image_id),
        cancel=cancel or threading.Event(),
        report=(seen if seen is not None else []).append,
        timeout_seconds=timeout_seconds,
    )


def _code_of(failed: pytest.ExceptionInfo[RuntimeFailureError]) -> FailureCode:
    return failed.value.failure.code


def test_image_is_pulled_once_by_its_digest_with_progress(runtime: DockerRuntime) -> None:
    with Registry(layer_bytes=4 * 2**20) as registry, _removed(registry.image_id):
        seen: list[PullProgress] = []
        assert _ensure(runtime, registry.reference, image_id=registry.image_id, seen=seen) == registry.image_id
        assert seen
        assert all(step.done_bytes <= step.total_bytes for step in seen)
        assert max(step.done_bytes for step in seen) == max(step.total_bytes for step in seen) > 0
        again: list[PullProgress] = []
        assert _ensure(runtime, registry.reference, seen=again) == registry.image_id
        assert again == []


def test_image_behind_the_digest_that_is_another_than_ordered_is_refused(runtime: DockerRuntime) -> None:
    with Registry() as registry, _removed(registry.image_id), pytest.raises(RuntimeFailureError, match="should be the image") as failed:
        _ensure(runtime, registry.reference, image_id="sha256:" + "0" * 64)
    assert _code_of(failed) is FailureCode.IMAGE_UNAVAILABLE


def test_digest_that_the_registry_lacks_is_unavailable(runtime: DockerRuntime) -> None:
    with Registry() as registry, pytest.raises(RuntimeFailureError) as failed:
        _ensure(runtime, f"{registry.name}@sha256:{'0' * 64}")
    assert _code_of(failed) is FailureCode.IMAGE_UNAVAILABLE


def test_layer_with_other_bytes_than_promised_is_unavailable(runtime: DockerRuntime) -> None:
    with Registry(damaged=True) as registry, _removed(registry.image_id), pytest.raises(RuntimeFailureError) as failed:
        _ensure(runtime, registry.reference)
    assert _code_of(failed) is FailureCode.IMAGE_UNAVAILABLE


def test_pull_that_takes_too_long_is_given_up(runtime: DockerRuntime) -> None:
    with Registry(hold=True) as registry, _removed(registry.image_id):
        begun = time.monotonic()
        with pytest.raises(RuntimeFailureError, match=r"within [0-9.]+ s") as failed:
            _ensure(runtime, registry.reference, timeout_seconds=0.5)
        assert time.monotonic() - begun < 3
        registry.let_go()
        _pull_ended()
    assert _code_of(failed) is FailureCode.IMAGE_UNAVAILABLE


def test_cancelled_pull_returns_at_once(runtime: DockerRuntime) -> None:
    cancel = threading.Event()
    failures: list[RuntimeFailureError] = []

    def pull() -> None:
        try:
            _ensure(runtime, registry.reference, cancel=cancel)
        except RuntimeFailureError as error:
            failures.append(error)

    with Registry(hold=True) as registry, _removed(registry.image_id):
        thread = threading.Thread(target=pull)
        thread.start()
        assert registry.held.wait(30)
        cancel.set()
        thread.join(2)
        assert not thread.is_alive()
        registry.let_go()
        _pull_ended()
    assert [error.failure.code for error in failures] == [FailureCode.CANCELLED]


def test_registry_that_is_away_for_a_while_is_waited_out(runtime: DockerRuntime) -> None:
    with Registry(away=3) as registry, _removed(registry.image_id):
        seen: list[PullProgress] = []
        assert _ensure(runtime, registry.reference, seen=seen) == registry.image_id
    assert any("The registry is away; trying again" in step.status and "503" in step.status for step in seen)


def test_registry_that_stays_away_is_given_up_at_the_end_of_the_time(runtime: DockerRuntime) -> None:
    with Registry() as registry:
        reference = registry.reference
    seen: list[PullProgress] = []
    began = time.monotonic()
    with pytest.raises(RuntimeFailureError, match=r"not pulled within [0-3]\.\d s: .*connection refused") as failed:
        _ensure(runtime, reference, seen=seen, timeout_seconds=3)
    assert time.monotonic() - began < 5
    assert (_code_of(failed), len(seen) >= 2) == (FailureCode.IMAGE_UNAVAILABLE, True)


def test_waiting_for_a_registry_can_be_cancelled(runtime: DockerRuntime) -> None:
    with Registry() as registry:
        reference = registry.reference
    cancel = threading.Event()

    def cancel_at(step: PullProgress) -> None:
        if "away" in step.status:
            cancel.set()

    with pytest.raises(RuntimeFailureError) as failed:
        runtime.image_ensure(ImageReference(name="small", pull=reference), cancel=cancel, report=cancel_at)
    assert _code_of(failed) is FailureCode.CANCELLED


def _pull_ended() -> None:
    """The thread that reads the engine's messages notices at the next one."""
    for thread in threading.enumerate():
        if thread.name == "image-pull":
            thread.join(20)
            assert not thread.is_alive()


def test_pull_that_stalls_in_silence_is_given_up(runtime: DockerRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_images, "SILENCE_SECONDS_MAX", 1.0)
    monkeypatch.setattr(docker_images, "AWAY_SECONDS_MAX", 1.0)
    with Registry(hold=True) as registry, _removed(registry.image_id), pytest.raises(RuntimeFailureError, match="nothing came") as failed:
        _ensure(runtime, registry.reference, timeout_seconds=60)
    assert _code_of(failed) is FailureCode.IMAGE_UNAVAILABLE
