"""Limits as the kernel has them, against those that the engine was told: from files of both versions, and of a real engine's container."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.runtime.engines import EngineWire
from tests.workers.runtime.test_docker_engine import Sink, _spec, image_id, runtime
from workers.protocol.messages.order import Limits
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.cgroups import CgroupLimits, cgroup_of, cgroup_usual
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RuntimeFailureError

__all__ = ["image_id", "runtime"]

CONTAINER = "f0" * 32
MIB = 2**20
ASKED = Limits(wall_seconds=60, memory_bytes=128 * MIB, cpus=0.5, pids=50, disk_bytes=64 * MIB, output_bytes=32 * MIB)
AS_ASKED = CgroupLimits(128 * MIB, 0, 50, 0.5)

VERSION_1 = {
    "cpuacct/{}/cpuacct.usage": "1",
    "cpuacct/{}/cgroup.procs": "42\n43\n",
    "memory/{}/memory.limit_in_bytes": "134217728\n",
    "memory/{}/memory.memsw.limit_in_bytes": "134217728\n",
    "memory/{}/cgroup.procs": "42\n43\n",
    "pids/{}/pids.max": "50\n",
    "pids/{}/cgroup.procs": "42\n43\n",
    "cpu/{}/cpu.cfs_quota_us": "50000\n",
    "cpu/{}/cpu.cfs_period_us": "100000\n",
    "cpu/{}/cgroup.procs": "42\n43\n",
}
VERSION_2 = {
    "{}/cpu.stat": "usage_usec 1\n",
    "{}/cgroup.procs": "42\n43\n",
    "{}/memory.max": "134217728\n",
    "{}/memory.swap.max": "0\n",
    "{}/pids.max": "50\n",
    "{}/cpu.max": "50000 100000\n",
}
UNLIMITED_1 = {
    "memory/{}/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/{}/memory.memsw.limit_in_bytes": "9223372036854771712\n",
    "pids/{}/pids.max": "max\n",
    "cpu/{}/cpu.cfs_quota_us": "-1\n",
}
UNLIMITED_2 = {"{}/memory.max": "max\n", "{}/memory.swap.max": "max\n", "{}/pids.max": "max\n", "{}/cpu.max": "max 100000\n"}


def _limits(folder: Path, files: dict[str, str], *, by_process: bool = False) -> CgroupLimits:
    """As read from these files of a container, which is found by its id, or by its first process."""
    place = f"docker/{CONTAINER}"
    for name, text in files.items():
        path = folder / "cgroup" / name.format(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = cgroup_usual(CONTAINER, cgroups=folder / "cgroup")
    if by_process:
        (folder / "42").mkdir()
        names = [f"0::/{place}"] if "{}/cpu.stat" in files else [f"1:{name}:/{place}" for name in ("cpuacct", "memory", "pids", "cpu")]
        (folder / "42" / "cgroup").write_text("\n".join(names))
        found = cgroup_of(42, CONTAINER, proc=folder, cgroups=folder / "cgroup")
    assert found is not None
    assert found.pids() == [42, 43]
    return found.limits()


@pytest.mark.parametrize("by_process", [False, True])
@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["version-1", "version-2"])
def test_limits_are_read_as_the_kernel_has_them(tmp_path: Path, files: dict[str, str], by_process: bool) -> None:
    found = _limits(tmp_path, files, by_process=by_process)
    assert found == AS_ASKED
    assert found.beyond(ASKED, swap_exists=True) == {}


@pytest.mark.parametrize(("files", "changed"), [(VERSION_1, UNLIMITED_1), (VERSION_2, UNLIMITED_2)], ids=["version-1", "version-2"])
def test_limits_that_are_not_set_are_beyond(tmp_path: Path, files: dict[str, str], changed: dict[str, str]) -> None:
    beyond = _limits(tmp_path, files | changed).beyond(ASKED, swap_exists=False)
    assert beyond == {"memory": math.inf, "pids": math.inf, "cpus": math.inf}


@pytest.mark.parametrize(
    ("files", "changed", "beyond"),
    [
        (VERSION_1, {"memory/{}/memory.limit_in_bytes": "134221824"}, {"memory": 134221824}),
        (VERSION_1, {"memory/{}/memory.memsw.limit_in_bytes": "268435456"}, {"swap": 128 * MIB}),
        (VERSION_1, {"pids/{}/pids.max": "51"}, {"pids": 51}),
        (VERSION_1, {"cpu/{}/cpu.cfs_quota_us": "100000"}, {"cpus": 1.0}),
        (VERSION_1, {"cpu/{}/cpu.cfs_quota_us": "49999"}, {}),
        (VERSION_2, {"{}/memory.max": "134221824"}, {"memory": 134221824}),
        (VERSION_2, {"{}/memory.swap.max": "max"}, {"swap": math.inf}),
        (VERSION_2, {"{}/pids.max": "51"}, {"pids": 51}),
        (VERSION_2, {"{}/cpu.max": "100000 100000"}, {"cpus": 1.0}),
        (VERSION_2, {"{}/cpu.max": "25000 50000"}, {}),
    ],
)
def test_each_limit_that_is_looser_than_asked_is_named(
    tmp_path: Path, files: dict[str, str], changed: dict[str, str], beyond: dict[str, float]
) -> None:
    assert _limits(tmp_path, files | changed).beyond(ASKED, swap_exists=True) == beyond


@pytest.mark.parametrize("text", ["", "\n", "many", "1 2 3 4 \u00e9", "0 0"])
@pytest.mark.parametrize(
    ("files", "name"), [(VERSION_1, "cpu/{}/cpu.cfs_quota_us"), (VERSION_2, "{}/cpu.max"), (VERSION_2, "{}/memory.max")]
)
def test_what_is_no_limit_is_not_judged(tmp_path: Path, files: dict[str, str], name: str, text: str) -> None:
    assert _limits(tmp_path, files | {name: text}).beyond(ASKED, swap_exists=True) == {}


@pytest.mark.parametrize(
    "files", [{name: VERSION_1[name] for name in list(VERSION_1)[:2]}, {name: VERSION_2[name] for name in list(VERSION_2)[:2]}]
)
def test_limits_that_cannot_be_seen_are_unknown(tmp_path: Path, files: dict[str, str]) -> None:
    assert _limits(tmp_path, files) == CgroupLimits()


@pytest.fixture
def wire() -> Iterator[EngineWire]:
    made = EngineWire()
    yield made
    made.cut()
    gc.collect()  # as in test_docker_faults


@pytest.mark.docker
@pytest.mark.parametrize(
    ("instead", "limit"),
    [
        ({b'"Memory": 134217728': b'"Memory": 0        ', b'"MemorySwap": 134217728': b'"MemorySwap": 0        '}, "memory"),
        ({b'"Memory": 134217728': b'"Memory": 234217728', b'"MemorySwap": 134217728': b'"MemorySwap": 234217728'}, "memory"),
        ({b'"PidsLimit": 50': b'"PidsLimit": -1'}, "pids"),
        ({b'"NanoCpus": 500000000': b'"NanoCpus": 0        '}, "cpus"),
    ],
)
def test_engine_that_does_not_set_a_limit_ends_the_run_and_gets_no_other(  # noqa: PLR0917  parameters of pytest
    wire: EngineWire, runtime: DockerRuntime, tmp_path: Path, image_id: str, instead: dict[bytes, bytes], limit: str
) -> None:
    wire.instead.update(instead)
    wired = DockerRuntime(wire.url)
    try:
        assert wired.profile().limits_ignored == ()
        spec: Any = _spec(tmp_path, image_id, "sleep", "30")
        result = wired.run(spec, Sink(), threading.Event())
        assert result.failure is not None
        assert (result.failure.code, limit in result.failure.message) == (FailureCode.HOST_REFUSED, True)
        assert result.usage.wall_seconds < 10
        with pytest.raises(RuntimeFailureError, match=limit) as refused:
            wired.run(_spec(tmp_path, image_id, "true"), Sink(), threading.Event())
        assert refused.value.failure.code is FailureCode.HOST_REFUSED
        assert wired.profile().limits_ignored == (limit,)
    finally:
        wired.close()


@pytest.mark.docker
def test_engine_that_sets_its_limits_runs_on(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    result = runtime.run(_spec(tmp_path, image_id, "sleep", "0.5"), Sink(), threading.Event())
    assert result.failure is None
    assert runtime.profile().limits_ignored == ()
