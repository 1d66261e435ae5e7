"""Samples of granted GPUs through a stub of NVML's library: what is told, what is not, and a driver that goes away meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.workers.nvml.machine import DRIVER_NOT_LOADED, GIB, GPU_IS_LOST, NOT_SUPPORTED, Error, StubGpu, StubMachine

SMALL = StubGpu("GPU-small", used_bytes=GIB, utilisation_percent=75, temperature_celsius=61, power_milliwatts=120_500)
LARGE = StubGpu("GPU-large", used_bytes=40 * GIB, utilisation_percent=100, temperature_celsius=70, power_milliwatts=350_000)
OTHER = StubGpu("GPU-other", used_bytes=2 * GIB, utilisation_percent=9, temperature_celsius=33, power_milliwatts=9_000)

SMALL_TOLD = {"name": "small", "utilisation": 0.75, "memory_bytes": GIB, "temperature_celsius": 61, "power_watts": 120.5}
LARGE_TOLD = {"name": "large", "utilisation": 1.0, "memory_bytes": 40 * GIB, "temperature_celsius": 70, "power_watts": 350.0}
NOTHING = {"utilisation": None, "memory_bytes": None, "temperature_celsius": None, "power_watts": None}

SAMPLER = """
import dataclasses, json, sys
from workers.protocol.messages.machine import Gpu
from workers.runtime.gpu_samples import gpu_samples
granted = [Gpu(index=0, uuid=f"GPU-{name}", name=name, memory_bytes=1) for name in sys.argv[1:]]
samples = gpu_samples(granted)
for line in sys.stdin:
    print(json.dumps([dataclasses.asdict(sample) for sample in next(samples)]), flush=True)
del samples
"""


class Sampler:
    """The sampler of a run that was granted GPUs, in a process on a machine."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def next(self) -> list[dict[str, Any]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._child.stdout.readline())
        return found


@contextmanager
def sampler(machine: StubMachine, *granted: str) -> Iterator[Sampler]:
    command = [sys.executable, "-c", SAMPLER, *granted]
    with subprocess.Popen(command, env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield Sampler(child)
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(30) == 0


def test_granted_gpus_are_read_in_their_order_and_no_other_is_asked(tmp_path: Path) -> None:
    machine = StubMachine(tmp_path, OTHER, SMALL, LARGE)
    with sampler(machine, "large", "small") as run:
        assert run.next() == [LARGE_TOLD, SMALL_TOLD]
        machine.describe(OTHER, SMALL.with_(utilisation_percent=10), LARGE)
        assert run.next() == [LARGE_TOLD, SMALL_TOLD | {"utilisation": 0.1}]
    handles = ["handle GPU-large", "handle GPU-small"]
    assert machine.asked() == ["init", *handles, *handles, "shutdown"]


@pytest.mark.parametrize(
    ("changed", "untold"),
    [
        ({"power_milliwatts": Error(NOT_SUPPORTED)}, "power_watts"),
        ({"temperature_celsius": Error(NOT_SUPPORTED)}, "temperature_celsius"),
        ({"utilisation_percent": Error(NOT_SUPPORTED)}, "utilisation"),
        ({"used_bytes": Error(NOT_SUPPORTED)}, "memory_bytes"),
    ],
)
def test_what_a_gpu_does_not_support_is_untold_and_the_rest_is_told(tmp_path: Path, changed: dict[str, Error], untold: str) -> None:
    with sampler(StubMachine(tmp_path, SMALL.with_(**changed)), "small") as run:
        assert run.next() == [SMALL_TOLD | {untold: None}]


@pytest.mark.parametrize(
    ("missing", "untold"),
    [
        ("nvmlDeviceGetPowerUsage", ["power_watts"]),
        ("nvmlDeviceGetTemperature", ["temperature_celsius"]),
        ("nvmlDeviceGetUtilizationRates", ["utilisation"]),
        ("nvmlDeviceGetHandleByUUID", list(NOTHING)),
    ],
)
def test_function_that_the_driver_lacks_is_untold(tmp_path: Path, missing: str, untold: list[str]) -> None:
    with sampler(StubMachine(tmp_path, SMALL, missing=[missing]), "small") as run:
        assert run.next() == [SMALL_TOLD | dict.fromkeys(untold)]
        assert run.next() == [SMALL_TOLD | dict.fromkeys(untold)]


def test_gpu_that_is_lost_tells_nothing_and_the_other_goes_on(tmp_path: Path) -> None:
    machine = StubMachine(tmp_path, SMALL, LARGE)
    with sampler(machine, "small", "large") as run:
        run.next()
        machine.describe(SMALL.lost(), LARGE)
        assert run.next() == [{"name": "small"} | NOTHING, LARGE_TOLD]
        error = Error(GPU_IS_LOST)  # as above, but its uuid is still known
        machine.describe(StubGpu("GPU-small", "", error, error, error, error, error), LARGE)
        assert run.next() == [{"name": "small"} | NOTHING, LARGE_TOLD]
        machine.describe(SMALL, LARGE)
        assert run.next() == [SMALL_TOLD, LARGE_TOLD]


def test_driver_that_goes_away_is_found_again(tmp_path: Path) -> None:
    machine = StubMachine(tmp_path)
    machine.describe(SMALL, init=DRIVER_NOT_LOADED)
    with sampler(machine, "small") as run:
        assert run.next() == run.next() == [{"name": "small"} | NOTHING]
        machine.describe(SMALL)
        assert run.next() == [SMALL_TOLD]
        machine.describe()
        assert run.next() == [{"name": "small"} | NOTHING]
        machine.describe(SMALL)
        assert run.next() == [SMALL_TOLD]
    assert [line for line in machine.asked() if not line.startswith("handle")] == ["init", "init", "init", "shutdown", "init", "shutdown"]


def test_run_without_gpus_opens_nothing(tmp_path: Path) -> None:
    machine = StubMachine(tmp_path, SMALL)
    with sampler(machine) as run:
        assert run.next() == run.next() == []
    assert machine.asked() == []
