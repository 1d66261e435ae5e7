"""Images that a host pulls: within a size, removed within a budget, and never one that runs or is the contributor's own."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound

from tests.workers.runtime.registry import Registry
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.docker_image_store import ImageLimits
from workers.runtime.image_record import ImageRecord
from workers.runtime.interface import RuntimeFailureError

pytestmark = pytest.mark.docker

MIB = 2**20
RuntimeMake = Callable[..., DockerRuntime]


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    client = docker.APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
def runtime_make(tmp_path: Path) -> Iterator[RuntimeMake]:
    made: list[DockerRuntime] = []

    def make(**limits: int) -> DockerRuntime:
        made.append(DockerRuntime(image_record=tmp_path / "images.json", image_limits=ImageLimits(**limits)))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close()
    gc.collect()  # a pull that was given up leaves its answer to the collector: let it be found here


@contextlib.contextmanager
def _registries(client: docker.APIClient, count: int = 1, **kwargs: Any) -> Iterator[list[Registry]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(Registry(**kwargs)) for _ in range(count)]
        try:
            yield made
        finally:
            for registry in made:
                with contextlib.suppress(ImageNotFound):
                    client.remove_image(registry.image_id, force=True)


def _ensure(runtime: DockerRuntime, registry: Registry) -> str:
    image = ImageReference(name="small", pull=registry.reference)
    return runtime.image_ensure(image, cancel=threading.Event(), report=lambda _: None, timeout_seconds=60)


def _run(runtime: DockerRuntime, registry: Registry) -> None:
    """As a run does: the image is had, used and let go."""
    with runtime.images.in_use(_ensure(runtime, registry)):
        pass


def _here(client: docker.APIClient, registry: Registry) -> bool:
    try:
        client.inspect_image(registry.image_id)  # type: ignore[no-untyped-call]  # the SDK's decorator hides its type
    except ImageNotFound:
        return False
    return True


def test_budget_removes_what_was_not_used_for_longest(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(budget_bytes=5 * MIB // 2)
    with _registries(client, 3) as (first, second, third):
        _run(runtime, first)
        _run(runtime, second)
        _run(runtime, first)
        assert (_here(client, first), _here(client, second)) == (True, True)
        _run(runtime, third)
        assert [_here(client, one) for one in (first, second, third)] == [True, False, True]
        assert runtime.images.kept_bytes() == pytest.approx(2 * MIB, rel=0.01)
        assert _ensure(runtime, second) == second.image_id


def test_image_that_runs_or_is_about_to_stays(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(budget_bytes=0)
    with _registries(client, 2) as (first, second):
        image_id = _ensure(runtime, first)
        _ensure(runtime, first)  # for another run
        _ensure(runtime, second)
        with runtime.images.in_use(image_id):
            assert (runtime.images.trim(), runtime.images.kept_bytes()) == (0, 0)
        assert (runtime.images.trim(), _here(client, first)) == (0, True)
        with runtime.images.in_use(image_id):
            assert runtime.images.trim() == 0
        assert (runtime.images.trim() >= MIB, _here(client, first), _here(client, second)) == (True, False, True)


def test_image_of_a_container_stays_until_that_is_gone(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(budget_bytes=0)
    with _registries(client) as (registry,):
        image_id = _ensure(runtime, registry)
        container = client.create_container(image_id, command=["/data"])["Id"]
        try:
            with runtime.images.in_use(image_id):
                pass
            assert (runtime.images.trim(), _here(client, registry)) == (0, True)
        finally:
            client.remove_container(container)
        runtime.images.trim()
        assert not _here(client, registry)


def test_images_of_the_contributor_stay(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(budget_bytes=0)
    with _registries(client, 2) as (pulled_by_hand, tagged):
        name, _, digest = pulled_by_hand.reference.partition("@")
        client.pull(name, tag=digest)
        _run(runtime, pulled_by_hand)
        _run(runtime, tagged)
        _ensure(runtime, tagged)
        client.tag(tagged.image_id, "nexapod-test/kept", "1")
        with runtime.images.in_use(tagged.image_id):
            pass
        runtime.images.trim()
        assert (_here(client, pulled_by_hand), _here(client, tagged)) == (True, True)
        found = client.inspect_image(tagged.image_id)  # type: ignore[no-untyped-call]  # the SDK's decorator hides its type
        assert (found["RepoTags"], found["RepoDigests"]) == (["nexapod-test/kept:1"], [])


def test_record_outlives_the_process_also_one_killed_while_pulling(
    runtime_make: RuntimeMake, client: docker.APIClient, tmp_path: Path
) -> None:
    with _registries(client, 3) as (before, killed, never):
        _run(runtime_make(), before)
        record = ImageRecord(tmp_path / "images.json")
        record.pull_begun(killed.reference)
        record.pull_begun(never.reference)
        name, _, digest = killed.reference.partition("@")
        client.pull(name, tag=digest)
        assert runtime_make(budget_bytes=0).images.trim() >= 2 * MIB
        assert (_here(client, before), _here(client, killed)) == (False, False)
        assert ImageRecord(tmp_path / "images.json").images() == []


def test_damaged_record_removes_nothing(runtime_make: RuntimeMake, client: docker.APIClient, tmp_path: Path) -> None:
    with _registries(client) as (registry,):
        _run(runtime_make(), registry)
        (tmp_path / "images.json").write_bytes(b"[{}]")
        assert (runtime_make(budget_bytes=0).images.trim(), _here(client, registry)) == (0, True)


def test_download_beyond_the_limit_is_broken_off(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(pull_bytes_max=4 * MIB)
    with _registries(client, layer_bytes=16 * MIB, hold=True) as (registry,):
        with pytest.raises(RuntimeFailureError, match=r"this host takes images of up to 4194304 \(pull_max_gib in node.toml\)") as failed:
            _ensure(runtime, registry)
        assert (failed.value.failure.code, registry.layer_requests) == (FailureCode.HOST_REFUSED, 1)
        registry.let_go()
        for thread in threading.enumerate():
            if thread.name == "image-pull":
                thread.join(20)
        assert not _here(client, registry)


def test_small_download_that_unpacks_beyond_the_limit_does_not_stay(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make(pull_bytes_max=4 * MIB)
    with _registries(client, layer_bytes=16 * MIB, zeros=True) as (registry,):
        assert registry.layer_bytes < MIB
        with pytest.raises(RuntimeFailureError, match="up to 4194304") as failed:
            _ensure(runtime, registry)
        assert (failed.value.failure.code, _here(client, registry)) == (FailureCode.HOST_REFUSED, False)


def test_disk_at_its_reserve_loses_images_and_then_fails_the_pull(
    runtime_make: RuntimeMake, client: docker.APIClient, tmp_path: Path
) -> None:
    with _registries(client, 2) as (old, wanted):
        _run(runtime_make(), old)
        with pytest.raises(RuntimeFailureError, match="no room") as failed:
            _ensure(runtime_make(reserve_bytes=2**60), wanted)
        assert failed.value.failure.code is FailureCode.HOST_DISK
        assert (_here(client, old), _here(client, wanted)) == (False, False)


def test_two_runs_that_want_an_image_share_one_pull(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime = runtime_make()
    found: list[str] = []
    with _registries(client, hold=True) as (registry,):
        threads = [threading.Thread(target=lambda: found.append(_ensure(runtime, registry))) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert registry.held.wait(30)
        registry.let_go()
        for thread in threads:
            thread.join(30)
        assert (found, registry.layer_requests) == ([registry.image_id] * 2, 1)


def test_waiting_for_the_pull_of_another_run_can_be_cancelled(runtime_make: RuntimeMake, client: docker.APIClient) -> None:
    runtime, cancel = runtime_make(), threading.Event()
    with _registries(client, hold=True) as (registry,):
        thread = threading.Thread(target=_ensure, args=(runtime, registry))
        thread.start()
        assert registry.held.wait(30)
        cancel.set()
        with pytest.raises(RuntimeFailureError) as failed:
            runtime.image_ensure(ImageReference(name="small", pull=registry.reference), cancel=cancel, report=lambda _: None)
        registry.let_go()
        thread.join(30)
    assert failed.value.failure.code is FailureCode.CANCELLED
