"""Kills for want of memory, where the engine's word for them comes late or never: the kernel's counters, from files and of containers."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.workers.runtime.engines import EngineWire
from tests.workers.runtime.test_docker_engine import Sink, _spec, image_id, runtime
from workers.protocol.messages.receipt import FailureCode
from workers.runtime import container_run
from workers.runtime.cgroups import Cgroup, machine_oom_kills
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunLostError, RunResult
from workers.runtime.oom_kills import OomKills

__all__ = ["image_id", "runtime"]

MIB = 2**20
TAKE_ALL = "held = []\nwhile True: held.append(b'x' * 2**20)"
FLAG, EVENT = b'"OOMKilled":true', b'"oom"'


class Machine:
    """Its counter, and the container's that it has one of, as files of cgroup version 1 or 2."""

    def __init__(self, folder: Path, version: int) -> None:
        self._folder = folder
        self.version = version
        self._container = folder / "container"
        self._container.mkdir()
        self._file = self._container / ("memory.oom_control" if version == 1 else "memory.events")
        cpu_file = self._container / ("cpuacct.usage" if version == 1 else "cpu.stat")
        self.cgroup = Cgroup(cpu_file, None, {"memory": self._container})
        self.kills(machine=5, own=0)

    def kills(self, *, machine: int, own: int | None, refusals: int | None = None) -> None:
        """Set the counters; `own` None: the container is gone. Of a container that was killed it was the limit, but for `refusals`."""
        (self._folder / "vmstat").write_text(f"nr_free_pages 1\noom_kill {machine}\n")
        if own is not None:
            refusals = own if refusals is None else refusals
            self._file.write_text(f"low 0\noom {refusals}\nunder_oom 0\noom_kill {own}\n")
        elif self._container.exists():
            shutil.rmtree(self._container)

    def counter(self) -> int | None:
        return machine_oom_kills(proc=self._folder)


@pytest.fixture(params=[1, 2], ids=["version-1", "version-2"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, request.param)


def _found(machine: Machine, *later: tuple[int, int | None]) -> bool:
    """Whether looks at the first counters and at each pair of `later` ones, the machine's and the container's, find a kill."""
    kills = OomKills(of_machine=machine.counter)
    kills.look(machine.cgroup)
    for of_machine, own in later:
        machine.kills(machine=of_machine, own=own)
        kills.look(machine.cgroup)
    return kills.found


@pytest.mark.parametrize(
    ("later", "found"),
    [
        pytest.param([(6, 1), (6, None)], True, id="seen-by-its-own-counter"),
        pytest.param([(6, 1), (6, 1)], True, id="gone-after-the-last-look"),
        pytest.param([(6, None)], True, id="gone-with-its-counter"),
        pytest.param([(5, None)], False, id="none"),
        pytest.param([(9, 0), (9, None)], False, id="of-others-while-it-ran"),
        pytest.param([(5, None), (9, None)], False, id="of-others-after-it"),
    ],
)
def test_kill_is_found_where_it_was_the_containers(machine: Machine, later: list[tuple[int, int | None]], found: bool) -> None:
    assert _found(machine, *later) is found


@pytest.mark.parametrize(
    ("later", "by_machine"),
    [
        pytest.param([(6, 1, 0)], True, id="never-at-its-limit"),
        pytest.param([(6, 1, 0), (6, None, None)], True, id="gone-after-that"),
        pytest.param([(6, 1, 1)], False, id="at-its-limit"),
        pytest.param([(6, 1, 0), (7, 2, 1)], False, id="later-at-its-limit"),
        pytest.param([(6, 1, 0), (7, None, None)], False, id="later-perhaps-at-its-limit"),
        pytest.param([(6, None, None)], False, id="nobody-knows"),
        pytest.param([(6, 0, 0), (6, None, None)], False, id="another's"),
    ],
)
def test_kill_for_want_of_memory_on_the_machine_is_told_from_one_of_its_limit(
    machine: Machine, later: list[tuple[int, int | None, int | None]], by_machine: bool
) -> None:
    """Version 1 can't tell."""
    kills = OomKills(of_machine=machine.counter)
    kills.look(machine.cgroup)
    for of_machine, own, refusals in later:
        machine.kills(machine=of_machine, own=own, refusals=refusals)
        kills.look(machine.cgroup)
    assert kills.by_machine is (by_machine and machine.version == 2)


def test_kernel_that_does_not_count_how_often_a_limit_was_met_clears_nobody(machine: Machine) -> None:
    kills = OomKills(of_machine=machine.counter)
    machine._file.write_text("oom_kill 1\n")
    kills.look(machine.cgroup)
    assert (kills.found, kills.by_machine) == (True, False)


def test_kill_within_the_last_look_that_finds_the_container_is_found(machine: Machine) -> None:
    """It comes as the machine's counter is read: what is counted there already must be seen in the container's own."""

    def counted() -> int | None:
        if machine.cgroup.oom_kills() == 0:
            machine.kills(machine=6, own=1)
        return machine.counter()

    kills = OomKills(of_machine=counted)
    kills.look(machine.cgroup)
    machine.kills(machine=6, own=None)
    kills.look(machine.cgroup)
    assert kills.found


def test_kill_within_the_first_look_that_misses_the_container_is_found(machine: Machine) -> None:
    """It comes, and takes the container with it, after the machine's counter was read and before the container's is."""
    looks = itertools.count()

    def counted() -> int | None:
        counter = machine.counter()
        if next(looks) == 1:
            machine.kills(machine=6, own=None)
        return counter

    kills = OomKills(of_machine=counted)
    kills.look(machine.cgroup)
    kills.look(machine.cgroup)
    assert kills.found


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", "under_oom 0\n", "a b c\n", "\u00e9"])
def test_kernel_that_counts_no_kills_shows_none(tmp_path: Path, machine: Machine, text: str) -> None:
    (tmp_path / "vmstat").write_text(text)
    machine._file.write_text(text)
    assert (machine.counter(), machine.cgroup.oom_kills(), Cgroup(tmp_path / "cpu.stat", None).oom_kills()) == (None, None, None)
    assert not _found(machine, (6, None))


# --- real containers --------------------------------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[EngineWire]:
    made = EngineWire()
    yield made
    made.cut()
    gc.collect()  # as in test_docker_faults


def _failure(result: RunResult | None) -> tuple[int | None, FailureCode | None]:
    assert result is not None
    return result.exit_code, result.failure.code if result.failure else None


@pytest.mark.docker
def test_container_killed_for_its_memory_says_so_though_the_engine_never_does(
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str
) -> None:
    """As when it asks for the container's counter once that is gone."""
    wire.unsaid.update({FLAG: b'"OOMKilled":   0', EVENT: b'"xxx"'})
    wired = DockerRuntime(wire.url)
    try:
        spec = _spec(tmp_path, image_id, "python3", "-c", TAKE_ALL, memory_bytes=32 * MIB)
        assert _failure(wired.run(spec, Sink(), threading.Event())) == (137, FailureCode.LIMIT_MEMORY)
    finally:
        wired.close()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("unsaid", "expected"),
    [
        ({}, FailureCode.LIMIT_MEMORY),
        ({FLAG: b'"OOMKilled":   0'}, FailureCode.LIMIT_MEMORY),
        ({EVENT: b'"xxx"'}, FailureCode.LIMIT_MEMORY),
        ({FLAG: b'"OOMKilled":   0', EVENT: b'"xxx"'}, FailureCode.EXIT_NONZERO),
    ],
    ids=["flag-and-event", "event", "flag", "neither"],
)
def test_engine_is_believed_of_a_container_that_nobody_followed(  # noqa: PLR0917  parameters of pytest
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str, unsaid: dict[bytes, bytes], expected: FailureCode
) -> None:
    """The event that comes too late for the flag is one of the cases; without either there is no evidence left."""
    spec = _spec(tmp_path, image_id, "python3", "-c", TAKE_ALL, memory_bytes=32 * MIB)
    client = docker.APIClient(version="auto")
    try:
        runtime._create(client, spec, "65534:65534")
        client.start(spec.name)
        client.wait(spec.name, timeout=60)
    finally:
        client.close()
    wire.unsaid.update(unsaid)
    wired = DockerRuntime(wire.url)
    try:
        assert _failure(wired.adopt(spec, Sink(), threading.Event())) == (137, expected)
    finally:
        wired.close()


@pytest.mark.docker
def test_program_that_kills_itself_has_memory_enough(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    result = runtime.run(_spec(tmp_path, image_id, "sh", "-c", "kill -KILL $$"), Sink(), threading.Event())
    assert _failure(result) == (137, FailureCode.EXIT_NONZERO)


class KilledByMachine(OomKills):
    """What the kernel's counters say after the machine ran out of memory, which no test may bring about."""

    def look(self, cgroup: Cgroup) -> None:
        self.found = self.by_machine = True


@pytest.mark.docker
def test_run_that_ends_for_want_of_memory_on_the_machine_is_lost_and_no_failure_of_the_job(
    runtime: DockerRuntime, tmp_path: Path, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_run, "OomKills", KilledByMachine)
    with pytest.raises(RunLostError, match="machine ran out of memory"):
        runtime.run(_spec(tmp_path, image_id, "sh", "-c", "kill -KILL $$"), Sink(), threading.Event())
