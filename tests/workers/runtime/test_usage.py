"""Usage from what engines and kernels report: cgroup version 1 and 2, whole, in part, and as nonsense."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.messages.receipt import GpuUsage
from workers.runtime.cgroups import Cgroup, CgroupReading, cgroup_of, cgroup_usual
from workers.runtime.interface import GpuSample, Sample
from workers.runtime.usage import Integral, UsageMeter

AT = datetime(2026, 1, 1, tzinfo=UTC)
CONTAINER = "f0" * 32

VERSION_1: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000, "usage_in_usermode": 1_400_000_000}, "online_cpus": 2},
    "memory_stats": {"usage": 60_000_000, "max_usage": 90_000_000, "stats": {"total_inactive_file": 10_000_000, "inactive_file": 1}},
    "pids_stats": {"current": 3},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 4096},
            {"major": 8, "minor": 0, "op": "Write", "value": 8192},
            {"major": 8, "minor": 16, "op": "Write", "value": 1},
            {"major": 8, "minor": 0, "op": "Total", "value": 12289},
        ]
    },
}
VERSION_2: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_000_000_000}, "online_cpus": 2},
    "memory_stats": {"usage": 50_000_000, "stats": {"inactive_file": 5_000_000}},  # version 2 tells no max_usage
    "pids_stats": {"current": 1, "limit": 50},
    "blkio_stats": {"io_service_bytes_recursive": [{"major": 254, "minor": 0, "op": "read", "value": 7}]},
}


def _sample(meter: UsageMeter, stats: Any, seconds: float = 1.0) -> Sample | None:
    return meter.sample(stats, at=AT, elapsed_seconds=seconds, output_bytes=5)


def test_stats_of_cgroup_version_1_become_a_sample() -> None:
    assert _sample(UsageMeter(), VERSION_1) == Sample(
        at=AT,
        elapsed_seconds=1.0,
        cpu_seconds=1.5,
        cpu_percent=None,
        memory_bytes=50_000_000,
        memory_peak_bytes=90_000_000,
        pids=3,
        read_bytes=4096,
        written_bytes=8193,
        output_bytes=5,
    )


def test_stats_of_cgroup_version_2_become_a_sample() -> None:
    sample = _sample(UsageMeter(), VERSION_2)
    assert sample is not None
    assert (sample.cpu_seconds, sample.memory_bytes, sample.memory_peak_bytes) == (2.0, 45_000_000, 50_000_000)
    assert (sample.pids, sample.read_bytes, sample.written_bytes) == (1, 7, 0)


def test_peak_that_the_engine_does_not_tell_is_the_highest_seen() -> None:
    meter = UsageMeter()
    _sample(meter, VERSION_2)
    later = _sample(meter, VERSION_2 | {"memory_stats": {"usage": 20_000_000}}, 2.0)
    assert later is not None
    assert (later.memory_bytes, later.memory_peak_bytes) == (20_000_000, 50_000_000)
    assert meter.usage(wall_seconds=3, gpus=0).memory_peak_bytes == 50_000_000


def test_cpu_percent_is_of_the_time_between_two_samples() -> None:
    meter = UsageMeter()
    _sample(meter, VERSION_1, 1.0)
    later = _sample(meter, VERSION_1 | {"cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}}}, 3.0)
    assert later is not None
    assert later.cpu_percent == 50.0


@pytest.mark.parametrize(
    "stats",
    [
        {},
        {"cpu_stats": {}, "memory_stats": {}},  # before the start, and after the end
        {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {"usage": 0}},
        {"cpu_stats": {"cpu_usage": {"total_usage": True}}, "memory_stats": {"usage": 1}},
        {"cpu_stats": {"cpu_usage": {"total_usage": -1}}, "memory_stats": {"usage": 1}},
        {"cpu_stats": None, "memory_stats": None},
    ],
)
def test_stats_that_tell_nothing_are_no_sample(stats: dict[str, Any]) -> None:
    meter = UsageMeter()
    assert _sample(meter, stats) is None
    assert meter.usage(wall_seconds=1, gpus=0).samples == 0


def test_what_an_engine_does_not_tell_stays_unknown() -> None:
    sample = _sample(UsageMeter(), {name: VERSION_2[name] for name in ("cpu_stats", "memory_stats")} | {"blkio_stats": None})
    assert sample is not None
    assert (sample.pids, sample.read_bytes, sample.written_bytes) == (None, None, None)


def test_counters_of_the_kernel_win_where_they_tell_more() -> None:
    meter = UsageMeter()
    assert meter.usage(wall_seconds=1, gpus=0, counters=CgroupReading(0.03, None)).cpu_seconds == 0.03
    _sample(meter, VERSION_1)
    more = meter.usage(wall_seconds=1, gpus=0, counters=CgroupReading(1.7, 95_000_000))
    assert (more.cpu_seconds, more.memory_peak_bytes, more.samples) == (1.7, 95_000_000, 1)
    less = meter.usage(wall_seconds=1, gpus=0, counters=CgroupReading(1.2, 10))
    assert (less.cpu_seconds, less.memory_peak_bytes) == (1.5, 90_000_000)


def test_memory_is_integrated_from_the_first_to_the_last_sample() -> None:
    meter = UsageMeter()
    memory = (10, 30, 30)
    for seconds, megabytes in zip((1.0, 2.0, 4.0), memory, strict=True):
        _sample(meter, VERSION_2 | {"memory_stats": {"usage": megabytes * 10**6}}, seconds)
    assert meter.usage(wall_seconds=9, gpus=0).memory_byte_seconds == 20e6 * 1 + 30e6 * 2
    once = UsageMeter()
    _sample(once, VERSION_2)
    assert once.usage(wall_seconds=9, gpus=0).memory_byte_seconds is None  # no time lies between one sample


def test_peak_of_processes_and_last_counters_of_io_are_kept() -> None:
    meter = UsageMeter()
    for seconds, pids in enumerate((2, 7, 3)):
        _sample(meter, VERSION_1 | {"pids_stats": {"current": pids}}, float(seconds))
    usage = meter.usage(wall_seconds=3, gpus=0)
    assert (usage.pids_peak, usage.read_bytes, usage.written_bytes) == (7, 4096, 8193)


def test_what_was_never_told_is_not_in_the_usage() -> None:
    meter = UsageMeter()
    _sample(meter, {name: VERSION_2[name] for name in ("cpu_stats", "memory_stats")})
    usage = meter.usage(wall_seconds=3, gpus=0)
    assert (usage.pids_peak, usage.read_bytes, usage.written_bytes, usage.gpu_seconds, usage.gpus) == (None, None, None, None, ())


def test_gpus_have_peaks_and_integrals_each() -> None:
    meter = UsageMeter()
    readings = [
        (1.0, GpuSample("A", 0.5, 100, 60, 100.0), GpuSample("B")),
        (2.0, GpuSample("A", 1.0, 300, 70, 200.0), GpuSample("B", temperature_celsius=40)),
        (4.0, GpuSample("A", 0.0, 200, 65, 100.0), GpuSample("B", utilisation=1.0)),
    ]
    for seconds, *gpus in readings:
        sample = meter.sample(VERSION_1, at=AT, elapsed_seconds=seconds, output_bytes=0, gpus=gpus)
        assert sample is not None
        assert sample.gpus == tuple(gpus)
    usage = meter.usage(wall_seconds=5, gpus=2)
    assert usage.gpu_seconds == 10
    assert usage.gpus == (
        GpuUsage(name="A", utilisation_seconds=1.75, memory_peak_bytes=300, temperature_peak_celsius=70, energy_joules=450),
        GpuUsage(name="B", temperature_peak_celsius=40),
    )


def test_time_in_which_a_gpu_told_nothing_is_not_made_up() -> None:
    meter = UsageMeter()
    for seconds, watts in enumerate((100.0, 100.0, None, 100.0, 100.0)):
        meter.sample(VERSION_1, at=AT, elapsed_seconds=float(seconds), output_bytes=0, gpus=[GpuSample("A", power_watts=watts)])
    assert meter.usage(wall_seconds=4, gpus=1).gpus == (GpuUsage(name="A", energy_joules=200),)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.none() | st.floats(0, 1)), max_size=20))
def test_an_integral_never_exceeds_the_time_between_readings_that_were_told(steps: list[tuple[float, float | None]]) -> None:
    integral, at_seconds, told_seconds = Integral(), 0.0, 0.0
    for (pause, value), (_, before) in zip(steps, [(0.0, None), *steps], strict=False):
        at_seconds += pause
        told_seconds += pause if value is not None and before is not None else 0
        integral.add(at_seconds, value)
    assert (integral.total is None) is (told_seconds == 0)
    assert 0 <= (integral.total or 0) <= told_seconds + 1e-9


def test_log_keeps_what_a_sample_tells() -> None:
    without = _sample(UsageMeter(), VERSION_1)
    assert without is not None
    assert without.details() == {
        "elapsed_seconds": 1.0,
        "cpu_seconds": 1.5,
        "cpu_percent": None,
        "memory_bytes": 50_000_000,
        "memory_peak_bytes": 90_000_000,
        "pids": 3,
        "read_bytes": 4096,
        "written_bytes": 8193,
        "output_bytes": 5,
    }
    gpus = [GpuSample("A", 0.5, 100, 60, None), GpuSample("B")]
    sample = UsageMeter().sample(VERSION_1, at=AT, elapsed_seconds=1.0, output_bytes=0, gpus=gpus)
    assert sample is not None
    assert sample.details()["gpus"] == [{"name": "A", "utilisation": 0.5, "memory_bytes": 100, "temperature_celsius": 60}, {"name": "B"}]


def test_gpu_seconds_are_those_granted() -> None:
    assert UsageMeter().usage(wall_seconds=3, gpus=2).gpu_seconds == 6
    assert UsageMeter().usage(wall_seconds=3, gpus=0).gpu_seconds is None


def _written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        (
            f"4:memory:/docker/{CONTAINER}\n2:cpu,cpuacct:/docker/{CONTAINER}\n1:name=systemd:/docker/{CONTAINER}\n",
            {
                f"cpu,cpuacct/docker/{CONTAINER}/cpuacct.usage": "1500000000\n",
                f"memory/docker/{CONTAINER}/memory.max_usage_in_bytes": "4096\n",
            },
            CgroupReading(1.5, 4096),
        ),
        (f"2:cpuacct:/docker/{CONTAINER}\n", {f"cpuacct/docker/{CONTAINER}/cpuacct.usage": "2000000000"}, CgroupReading(2.0, None)),
        (
            f"0::/system.slice/docker-{CONTAINER}.scope\n",
            {
                f"system.slice/docker-{CONTAINER}.scope/cpu.stat": "usage_usec 250000\nuser_usec 200000\nsystem_usec 50000\n",
                f"system.slice/docker-{CONTAINER}.scope/memory.peak": "8192\n",
            },
            CgroupReading(0.25, 8192),
        ),
        (
            f"0::/user.slice/user-1000.slice/libpod-{CONTAINER}.scope\n",
            {f"user.slice/user-1000.slice/libpod-{CONTAINER}.scope/cpu.stat": "usage_usec 1\n"},
            CgroupReading(0.000001, None),
        ),
    ],
    ids=["version-1", "version-1-lone-controller", "version-2", "version-2-without-peak"],
)
def test_counters_are_found_by_the_first_process(tmp_path: Path, lines: str, files: dict[str, str], expected: CgroupReading) -> None:
    proc, cgroups = _written(tmp_path / "proc", {"42/cgroup": lines}), _written(tmp_path / "cgroup", files)
    found = cgroup_of(42, CONTAINER, proc=proc, cgroups=cgroups)
    assert found is not None
    assert found.read() == expected


@pytest.mark.parametrize(
    "place", [f"docker/{CONTAINER}", f"system.slice/docker-{CONTAINER}.scope", f"machine.slice/libpod-{CONTAINER}.scope"]
)
@pytest.mark.parametrize(("folder", "name", "text"), [("", "cpu.stat", "usage_usec 9\n"), ("cpuacct", "cpuacct.usage", "9000\n")])
def test_counters_are_found_before_there_is_a_process(tmp_path: Path, place: str, folder: str, name: str, text: str) -> None:
    found = cgroup_usual(CONTAINER, cgroups=_written(tmp_path, {f"{folder}/{place}/{name}".lstrip("/"): text}))
    assert found is not None
    assert found.read() == CgroupReading(0.000009, None)


def test_container_that_cannot_be_seen_has_no_counters(tmp_path: Path) -> None:
    other = "ab" * 32
    proc = _written(
        tmp_path / "proc",
        {
            "1/cgroup": "0::/init.scope\n",
            "2/cgroup": f"0::/docker/{other}\n",  # a process of another machine's number
            "3/cgroup": f"0::/../../docker/{CONTAINER}\n",
            "4/cgroup": "nonsense\n::\n",
            "5/cgroup": f"0::/docker/{CONTAINER}\n",  # but no files
        },
    )
    cgroups = _written(tmp_path / "cgroup", {f"docker/{other}/cpu.stat": "usage_usec 1\n"})
    assert [cgroup_of(pid, CONTAINER, proc=proc, cgroups=cgroups) for pid in (0, 1, 2, 3, 4, 5, 6)] == [None] * 7
    assert cgroup_of(2, "", proc=proc, cgroups=cgroups) is None
    assert cgroup_usual(CONTAINER, cgroups=cgroups) is None


@pytest.mark.parametrize("text", ["", "usage_usec\n", "usage_usec many\n", "user_usec 1\n", "a b c\n", "\u00e9"])
def test_counters_that_are_none_are_not_read(tmp_path: Path, text: str) -> None:
    _written(tmp_path, {"cpu.stat": text, "cpuacct.usage": text, "good/cpu.stat": "usage_usec 1000000", "good/memory.peak": text})
    assert Cgroup(tmp_path / "cpu.stat", None).read() is None
    assert Cgroup(tmp_path / "cpuacct.usage", None).read() is None
    assert Cgroup(tmp_path / "gone", None).read() is None
    assert Cgroup(tmp_path / "good" / "cpu.stat", tmp_path / "good" / "memory.peak").read() == CgroupReading(1.0, None)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["cpu_stats", "memory_stats", "pids_stats", "blkio_stats"]), _JSON))
def test_no_nonsense_of_an_engine_escapes(stats: dict[str, Any]) -> None:
    _sample(UsageMeter(), stats)
    io = stats.get("blkio_stats")
    _sample(UsageMeter(), VERSION_2 | {"blkio_stats": {"io_service_bytes_recursive": [io, io]}})
    _sample(UsageMeter(), VERSION_2 | {name: value for name, value in stats.items() if name in {"pids_stats", "blkio_stats"}})
