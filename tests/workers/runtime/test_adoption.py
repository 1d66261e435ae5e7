"""Containers that outlive the process that started them, and ends that were not a container's own, on a real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from tests.workers.runtime.engines import EngineWire, wire
from tests.workers.runtime.test_docker_engine import HOME, Sink, _run, _spec, image_id, runtime
from workers.protocol.messages.receipt import FailureCode
from workers.runtime import container_history, container_run
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunLostError, RunSpec

__all__ = ["image_id", "runtime", "wire"]

pytestmark = pytest.mark.docker
LIMIT_SECONDS = 20


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
def left(engine: docker.APIClient, runtime: DockerRuntime) -> Callable[[RunSpec], None]:
    """Starts the container of a spec as a process does that dies at once: created by the runtime's own code, followed by nobody."""

    def start(spec: RunSpec) -> None:
        runtime._create(engine, spec, "65534:65534")
        spec.outputs_dir.chmod(0o777)
        engine.start(spec.name)

    return start


@pytest.fixture
def ended(engine: docker.APIClient, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str) -> RunSpec:
    """Of a container that ended well while nobody followed it."""
    spec = _spec(tmp_path, image_id, "true")
    left(spec)
    _await(lambda: _status(engine, spec) == "exited")
    return spec


def _await(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _status(engine: docker.APIClient, spec: RunSpec) -> str:
    return str(engine.inspect_container(spec.name)["State"]["Status"])


def test_container_that_runs_is_followed_to_its_end(
    runtime: DockerRuntime, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "sh", "-c", "sleep 1.5; echo done; echo 7 > /outputs/a")
    left(spec)
    sink = Sink()
    result = runtime.adopt(spec, sink, threading.Event())
    assert result is not None
    assert (result.exit_code, result.failure, sink.output["stdout"], sink.starts) == (0, None, b"done\n", [True])
    assert 1 < result.usage.wall_seconds < LIMIT_SECONDS
    assert (spec.outputs_dir / "a").read_text() == "7\n"


def test_container_that_was_paused_meanwhile_goes_on(
    runtime: DockerRuntime, engine: docker.APIClient, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "sh", "-c", "sleep 1; echo done")
    left(spec)
    engine.pause(spec.name)
    result = runtime.adopt(spec, Sink(), threading.Event())
    assert result is not None
    assert (result.exit_code, result.failure) == (0, None)


def test_limits_hold_for_a_container_that_is_followed(
    runtime: DockerRuntime, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "sleep", "60", wall_seconds=2)
    left(spec)
    result = runtime.adopt(spec, Sink(), threading.Event())
    assert result is not None
    assert result.failure is not None
    assert result.failure.code is FailureCode.LIMIT_WALL
    assert result.usage.wall_seconds < LIMIT_SECONDS


@pytest.mark.parametrize(("code", "failure"), [(0, None), (5, FailureCode.EXIT_NONZERO)])
def test_container_that_ended_meanwhile_is_concluded(  # noqa: PLR0917  parameters of pytest
    runtime: DockerRuntime,
    engine: docker.APIClient,
    left: Callable[[RunSpec], None],
    tmp_path: Path,
    image_id: str,
    code: int,
    failure: FailureCode | None,
) -> None:
    spec = _spec(tmp_path, image_id, "sh", "-c", f"exit {code}")
    left(spec)
    _await(lambda: _status(engine, spec) == "exited")
    sink = Sink()
    result = runtime.adopt(spec, sink, threading.Event())
    assert result is not None
    assert (result.exit_code, result.failure and result.failure.code, sink.results) == (code, failure, [result])


def test_container_that_was_stopped_meanwhile_is_not_believed(
    runtime: DockerRuntime, engine: docker.APIClient, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    """As an engine stops all of them when it shuts down; this one even exits with 0 then."""
    spec = _spec(tmp_path, image_id, "sh", "-c", "trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done")
    left(spec)
    engine.stop(spec.name, timeout=5)
    assert runtime.adopt(spec, Sink(), threading.Event()) is None
    assert engine.containers(all=True, filters={"label": f"nexapod.home={HOME}"}) == []


def test_container_that_never_started_and_none_at_all_are_nothing(
    runtime: DockerRuntime, engine: docker.APIClient, tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "true")
    assert runtime.adopt(spec, Sink(), threading.Event()) is None
    runtime._create(engine, spec, "65534:65534")
    assert runtime.adopt(spec, Sink(), threading.Event()) is None
    assert engine.containers(all=True, filters={"label": f"nexapod.home={HOME}"}) == []


@pytest.mark.parametrize("stop", ["stop", "kill"])
def test_container_that_somebody_stops_is_a_lost_run(
    runtime: DockerRuntime, engine: docker.APIClient, tmp_path: Path, image_id: str, stop: str
) -> None:
    spec, sink = _spec(tmp_path, image_id, "sh", "-c", "trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done"), Sink()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runtime.run, spec, sink, threading.Event())
        assert sink.running.wait(LIMIT_SECONDS)
        getattr(engine, stop)(spec.name)
        with pytest.raises(RunLostError, match="stopped"):
            running.result(LIMIT_SECONDS)
    assert runtime.adopt(spec, Sink(), threading.Event()) is None


def test_what_a_lost_run_left_does_not_stand_in_the_way_of_the_next(
    runtime: DockerRuntime, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "echo", "anew")
    left(spec)
    result, sink = _run(runtime, spec)
    assert (result.exit_code, sink.output["stdout"], sink.starts) == (0, b"anew\n", [False])


def test_containers_to_be_kept_are_no_leftovers(
    runtime: DockerRuntime, engine: docker.APIClient, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    kept, gone = (_spec(tmp_path, image_id, "sleep", "60") for _ in range(2))
    left(kept)
    left(gone)
    assert runtime.leftovers_remove(HOME, keep=lambda: {kept.name}) == 1
    assert _status(engine, kept) == "running"
    assert runtime.leftovers_remove(HOME) == 1


def test_waiting_for_longer_than_one_call_of_the_engine_loses_no_run(
    runtime: DockerRuntime, tmp_path: Path, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_run, "_WAIT_SECONDS", 1)
    result, sink = _run(runtime, _spec(tmp_path, image_id, "sh", "-c", "sleep 3; echo done"))
    assert (result.exit_code, sink.output["stdout"]) == (0, b"done\n")


@pytest.fixture
def wired(wire: EngineWire) -> Iterator[DockerRuntime]:
    made = DockerRuntime(wire.url)
    yield made
    made.close()


@pytest.fixture
def set_back(wire: EngineWire) -> None:
    """The engine says that containers began in another century, as if the clock had been set back since."""
    wire.unsaid[b'"StartedAt":"20'] = b'"StartedAt":"21'


@pytest.mark.usefixtures("set_back")
def test_container_that_ended_before_it_began_is_concluded(runtime: DockerRuntime, wired: DockerRuntime, ended: RunSpec) -> None:
    result = wired.adopt(ended, Sink(), threading.Event())
    assert result is not None
    assert (result.exit_code, result.failure, result.usage.wall_seconds) == (0, None, 0)


@pytest.mark.usefixtures("set_back")
def test_container_that_ended_before_it_began_and_was_stopped_is_not_believed(  # noqa: PLR0917  parameters of pytest
    runtime: DockerRuntime, engine: docker.APIClient, wired: DockerRuntime, left: Callable[[RunSpec], None], tmp_path: Path, image_id: str
) -> None:
    spec = _spec(tmp_path, image_id, "sh", "-c", "trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done")
    left(spec)
    engine.stop(spec.name, timeout=5)
    assert wired.adopt(spec, Sink(), threading.Event()) is None
    assert engine.containers(all=True, filters={"label": f"nexapod.home={HOME}"}) == []


@pytest.mark.usefixtures("set_back")
def test_run_whose_clock_is_set_back_meanwhile_ends_as_any_other(
    runtime: DockerRuntime, wired: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    result, _ = _run(wired, _spec(tmp_path, image_id, "true"))
    assert (result.exit_code, result.failure) == (0, None)


@pytest.mark.parametrize("failing", ["goes away", "hangs"])
def test_engine_that_fails_while_an_ended_container_is_adopted_loses_nothing(  # noqa: PLR0917  parameters of pytest
    runtime: DockerRuntime, wire: EngineWire, wired: DockerRuntime, ended: RunSpec, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """It is asked again when it is back, and has the container still."""
    monkeypatch.setattr(container_history, "_ANSWER_SECONDS", 1)
    if failing == "hangs":
        wire.instead[b"until=1"] = b"until=9"  # a moment that is centuries away, for which it waits
    else:
        wire.cut_at = b"/events?"
    with pytest.raises(RunLostError, match="asked how a run had ended") as lost:
        wired.adopt(ended, Sink(), threading.Event())
    assert not lost.value.is_over
    result = runtime.adopt(ended, Sink(), threading.Event())
    assert result is not None
    assert (result.exit_code, result.failure) == (0, None)


def test_engine_that_does_not_tell_how_a_container_ended_has_it_run_again(
    runtime: DockerRuntime, engine: docker.APIClient, wire: EngineWire, wired: DockerRuntime, ended: RunSpec
) -> None:
    wire.instead[b"/events?"] = b"/nothing"
    assert wired.adopt(ended, Sink(), threading.Event()) is None
    assert engine.containers(all=True, filters={"label": f"nexapod.home={HOME}"}) == []


def test_container_that_stays_paused_past_its_time_is_no_fault_of_the_jobs(
    runtime: DockerRuntime, engine: docker.APIClient, tmp_path: Path, image_id: str
) -> None:
    spec, sink = _spec(tmp_path, image_id, "sh", "-c", "echo up; sleep 60", wall_seconds=3), Sink()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runtime.run, spec, sink, threading.Event())
        assert sink.running.wait(LIMIT_SECONDS)
        engine.pause(spec.name)
        result = running.result(LIMIT_SECONDS)
    assert result.failure is not None
    assert result.failure.code is FailureCode.HOST_GAVE_UP
