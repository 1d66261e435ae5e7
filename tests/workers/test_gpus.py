"""GPUs through a stub of NVML's library: what a machine has, which tier that makes it, what it lends, and GPUs that come and go."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from nodes.tiers import tier_classify
from tests.workers.nvml.machine import (
    DRIVER_NOT_LOADED,
    DRIVER_VERSION,
    GIB,
    NOT_SUPPORTED,
    UNKNOWN,
    VERSION_MISMATCH,
    Error,
    StubGpu,
    StubMachine,
    child_run,
)
from workers.caps import Caps, NodeSettings
from workers.gpus import LOOK_SECONDS, GpuReading, GpuWatch
from workers.protocol.messages.exchange import FreeResources
from workers.protocol.messages.machine import Gpu, NodeProfile, Tier
from workers.protocol.messages.order import Limits
from workers.resources import Resources, ResourcesExhaustedError

SMALL = StubGpu("GPU-small", "NVIDIA GTX 1660", 6 * 10**9)
MIDDLE = StubGpu("GPU-middle", "NVIDIA A16", 16 * 10**9)
LARGE = StubGpu("GPU-large", "NVIDIA H100", 80 * 10**9)

READ = """
import json
from workers.gpus import gpus_read
reading = gpus_read()
print(json.dumps([[gpu.model_dump() for gpu in reading.gpus], reading.troubles]))
"""
PROFILE = """
from workers.profile import machine_profile
from workers.protocol.messages.machine import EngineProfile
print(machine_profile(EngineProfile(name="docker", version="1", cgroup_version="2", rootless=False), gflops=1.5).model_dump_json())
"""


def profile_on(machine: StubMachine, *, memory_bytes: int = 64 * 10**9, cores: int = 16) -> NodeProfile:
    """The profile that a worker makes of itself on this machine, with as much memory and as many cores as said here."""
    return NodeProfile.model_validate(machine.run(PROFILE)).model_copy(update={"memory_bytes": memory_bytes, "cores": cores})


def caps_of(profile: NodeProfile, **lend: Any) -> Caps:
    return Caps.of(NodeSettings.model_validate({"lend": lend}), profile)


def limits(gpus: int, gpu_memory_bytes: int = 0) -> Limits:
    return Limits(
        wall_seconds=1, memory_bytes=GIB, cpus=1, pids=1, disk_bytes=2**20, output_bytes=1, gpus=gpus, gpu_memory_bytes=gpu_memory_bytes
    )


class TestWhatTheMachineHas:
    def test_unequal_gpus_are_told_by_index_uuid_and_memory(self, tmp_path: Path) -> None:
        machine = StubMachine(tmp_path, LARGE, SMALL, MIDDLE)
        found, troubles = machine.run(READ)
        assert [(gpu["index"], gpu["uuid"], gpu["name"], gpu["memory_bytes"]) for gpu in found] == [
            (0, "GPU-large", "NVIDIA H100", 80 * 10**9),
            (1, "GPU-small", "NVIDIA GTX 1660", 6 * 10**9),
            (2, "GPU-middle", "NVIDIA A16", 16 * 10**9),
        ]
        assert {gpu["driver_version"] for gpu in found} == {DRIVER_VERSION}
        assert troubles == []
        assert machine.asked().count("init") == machine.asked().count("shutdown")

    @pytest.mark.parametrize(
        "broken",
        [SMALL.lost(), SMALL.with_(uuid=Error(UNKNOWN)), SMALL.with_(memory_bytes=Error(NOT_SUPPORTED))],
        ids=["lost", "no_uuid", "no_memory"],
    )
    def test_gpu_that_cannot_be_granted_is_left_out_and_the_others_are_not(self, tmp_path: Path, broken: StubGpu) -> None:
        found, troubles = StubMachine(tmp_path, MIDDLE, broken, LARGE).run(READ)
        assert [(gpu["index"], gpu["uuid"]) for gpu in found] == [(0, "GPU-middle"), (2, "GPU-large")]
        assert [trouble.startswith("GPU 1 is left out: DeviceGet") for trouble in troubles] == [True]

    @pytest.mark.parametrize("missing", ["nvmlDeviceGetName", "nvmlSystemGetDriverVersion"])
    def test_old_library_that_lacks_a_description_still_gives_its_gpus(self, tmp_path: Path, missing: str) -> None:
        found, troubles = StubMachine(tmp_path, SMALL, LARGE, missing=[missing]).run(READ)
        assert [gpu["uuid"] for gpu in found] == ["GPU-small", "GPU-large"]
        assert found[0]["driver_version" if "Driver" in missing else "name"] == ("" if "Driver" in missing else "unknown")
        assert troubles == []

    @pytest.mark.parametrize(
        ("codes", "words"),
        [
            ({"init": DRIVER_NOT_LOADED}, "Driver Not Loaded"),
            ({"init": VERSION_MISMATCH}, "version mismatch"),
            ({"count": UNKNOWN}, "DeviceGetCount"),
        ],
        ids=["no_driver", "driver_updated_under_us", "not_counted"],
    )
    def test_driver_in_trouble_means_no_gpus_and_says_why(self, tmp_path: Path, codes: dict[str, int], words: str) -> None:
        machine = StubMachine(tmp_path)
        machine.describe(SMALL, **codes)
        found, [trouble] = machine.run(READ)
        assert found == []
        assert trouble.startswith("no GPUs: ")
        assert words.lower() in trouble.lower()
        assert machine.asked().count("shutdown") == ("count" in codes)

    def test_library_without_a_count_means_no_gpus(self, tmp_path: Path) -> None:
        found, [trouble] = StubMachine(tmp_path, SMALL, missing=["nvmlDeviceGetCount_v2"]).run(READ)
        assert (found, "Function Not Found" in trouble) == ([], True)

    def test_machine_without_a_driver_says_so(self) -> None:
        found, [trouble] = child_run(READ)
        assert (found, "Shared Library Not Found" in trouble) == ([], True)


class TestTier:
    @pytest.mark.parametrize(
        ("gpus", "tier"),
        [
            ((), Tier.CPU),
            ((StubGpu("GPU-tiny", memory_bytes=2 * 10**9),), Tier.CPU),
            ((SMALL, SMALL.with_(uuid="GPU-small-2")), Tier.GPU_TIER1),  # memory of two doesn't add up
            ((SMALL, MIDDLE), Tier.GPU_TIER2),
            ((SMALL, LARGE, MIDDLE), Tier.GPU_TIER3),
            ((SMALL, LARGE.lost(), MIDDLE), Tier.GPU_TIER2),  # the largest that answers
            ((LARGE.with_(memory_bytes=Error(NOT_SUPPORTED)),), Tier.CPU),
        ],
        ids=["none", "too_small", "two_small", "unequal", "three", "largest_lost", "memory_untold"],
    )
    def test_the_largest_gpu_that_answers_decides(self, tmp_path: Path, gpus: tuple[StubGpu, ...], tier: Tier) -> None:
        assert tier_classify(profile_on(StubMachine(tmp_path, *gpus))).tier is tier

    @pytest.mark.parametrize(
        ("memory_bytes", "cores", "tier"),
        [
            (32 * 10**9, 8, Tier.GPU_TIER3),
            (32 * 10**9 - 1, 8, Tier.GPU_TIER2),
            (32 * 10**9, 7, Tier.GPU_TIER2),
            (8 * 10**9, 2, Tier.GPU_TIER1),
            (4 * 10**9, 2, Tier.CPU),
        ],
    )
    def test_a_gpu_needs_a_machine_that_can_feed_it(self, tmp_path: Path, memory_bytes: int, cores: int, tier: Tier) -> None:
        assert tier_classify(profile_on(StubMachine(tmp_path, LARGE), memory_bytes=memory_bytes, cores=cores)).tier is tier

    def test_reasons_name_the_gpu_that_is_missing(self, tmp_path: Path) -> None:
        decision = tier_classify(profile_on(StubMachine(tmp_path, SMALL, MIDDLE)))
        assert decision.reasons == ("gpu-tier3 needs a GPU with 40 GB (the largest has 16 GB)",)


class TestSlots:
    def test_several_gpus_are_given_out_one_by_one_and_the_large_ones_last(self, tmp_path: Path) -> None:
        caps = caps_of(profile_on(StubMachine(tmp_path, LARGE, SMALL, MIDDLE)), slots=4)
        resources = Resources(caps, disk_free=lambda: 100 * GIB)
        given = [[gpu.uuid for gpu in resources.reserve(UUID(int=number), limits(1))] for number in range(3)]
        assert given == [["GPU-small"], ["GPU-middle"], ["GPU-large"]]
        assert (resources.free().slots, resources.free().gpus) == (1, ())
        with pytest.raises(ResourcesExhaustedError, match="needs 1 GPUs; this node has 0 free"):
            resources.reserve(UUID(int=9), limits(1))
        resources.release(UUID(int=1))
        assert [(gpu.index, gpu.uuid) for gpu in resources.free().gpus] == [(2, "GPU-middle")]

    def test_each_granted_gpu_has_the_memory_that_the_order_says(self, tmp_path: Path) -> None:
        resources = Resources(caps_of(profile_on(StubMachine(tmp_path, LARGE, SMALL, MIDDLE))), disk_free=lambda: 100 * GIB)
        with pytest.raises(ResourcesExhaustedError, match=r"needs 3 GPUs with 10000000000 bytes of memory each; this node has 2 free"):
            resources.reserve(UUID(int=1), limits(3, 10 * 10**9))
        assert [gpu.uuid for gpu in resources.reserve(UUID(int=1), limits(1, 10 * 10**9))] == ["GPU-middle"]
        assert [gpu.uuid for gpu in resources.reserve(UUID(int=2), limits(1, 10 * 10**9))] == ["GPU-large"]
        assert [gpu.uuid for gpu in resources.free().gpus] == ["GPU-small"]

    def test_only_the_gpus_that_the_contributor_lends_are_given(self, tmp_path: Path) -> None:
        profile = profile_on(StubMachine(tmp_path, LARGE, SMALL, MIDDLE))
        resources = Resources(caps_of(profile, gpus=["GPU-small"]), disk_free=lambda: 100 * GIB)
        assert [gpu.uuid for gpu in resources.free().gpus] == ["GPU-small"]
        assert Resources(caps_of(profile, gpus=[]), disk_free=lambda: 100 * GIB).free().gpus == ()


LENT = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="T", memory_bytes=GIB) for index in range(2))

COMES_AND_GOES = """
import json, sys
from workers.gpus import LOOK_SECONDS, GpuWatch, gpus_found
from workers.gpus import gpus_read
import threading
now = [0.0]
looked = threading.Semaphore(0)
def read():
    reading = gpus_read()
    looked.release()
    return reading
lent = gpus_found()
watch = GpuWatch(lent, read=read, clock=lambda: now[0])
looked.acquire()
for line in sys.stdin:
    now[0] += LOOK_SECONDS
    before = [gpu.uuid for gpu in watch.present()]
    assert looked.acquire(timeout=30)
    for thread in threading.enumerate():
        if thread.name == "nexa-gpu-watch":
            thread.join(30)
    print(json.dumps([before, [[gpu.index, gpu.uuid] for gpu in watch.present()]]), flush=True)
"""


class TestWatch:
    def test_gpu_that_is_lost_is_not_offered_until_it_is_back(self, tmp_path: Path) -> None:
        machine = StubMachine(tmp_path, SMALL, MIDDLE)
        with subprocess.Popen(
            [sys.executable, "-c", COMES_AND_GOES], env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None

            def looked(*gpus: StubGpu, **codes: int) -> Any:
                """What is offered once the time for another look has come, and after that look."""
                machine.describe(*gpus, **codes)
                child.stdin.write("\n")  # type: ignore[union-attr]  # asserted above
                child.stdin.flush()  # type: ignore[union-attr]
                return json.loads(child.stdout.readline())  # type: ignore[union-attr]

            both, middle = ["GPU-small", "GPU-middle"], [[1, "GPU-middle"]]
            looked(SMALL, MIDDLE)
            assert looked(SMALL.lost(), MIDDLE) == [both, middle]
            assert looked(SMALL, MIDDLE, init=DRIVER_NOT_LOADED) == [["GPU-middle"], []]
            assert looked(MIDDLE, SMALL) == [[], [[0, "GPU-middle"], [1, "GPU-small"]]]  # counted anew after a restart of the driver
            assert looked(MIDDLE, LARGE)[1] == [[0, "GPU-middle"]]  # one that was put in since is not lent
            child.stdin.close()
            assert child.wait(30) == 0

    def test_gpus_are_looked_at_once_in_a_while_and_nobody_waits_for_it(self) -> None:
        now, looks, answer = [0.0], [0], threading.Event()

        def read() -> GpuReading:
            looks[0] += 1
            if looks[0] > 1:
                assert answer.wait(30)
            return GpuReading(LENT)

        watch = GpuWatch(LENT, read=read, clock=lambda: now[0])
        now[0] = LOOK_SECONDS - 0.1
        assert [watch.present() for _ in range(3)] == [LENT] * 3
        assert looks[0] == 1
        now[0] = LOOK_SECONDS
        assert [watch.present() for _ in range(3)] == [LENT] * 3  # from the last look: this one has not answered yet
        now[0] = 2 * LOOK_SECONDS
        assert watch.present() == ()  # a driver that does not answer has nothing to offer
        answer.set()
        _threads_join("nexa-gpu-watch")
        assert looks[0] == 2
        assert watch.present() == LENT

    def test_host_that_lends_no_gpu_never_looks(self) -> None:
        def read() -> GpuReading:
            raise AssertionError("looked")

        assert GpuWatch((), read=read, clock=lambda: 0.0).present() == ()

    def test_what_is_free_follows_the_watch(self) -> None:
        readings = [GpuReading(LENT[1:], ("GPU 0 is left out: lost",))]
        caps = Caps(slots=2, cpus=2, memory_bytes=2 * GIB, disk_bytes=GIB, gpus=LENT)
        resources = Resources(caps, disk_free=lambda: 9 * GIB, gpus_present=GpuWatch(LENT, read=readings.pop).present)
        assert isinstance(resources.free(), FreeResources)
        assert resources.free().gpus == LENT[1:]
        assert resources.reserve(UUID(int=1), limits(1)) == LENT[1:]


def test_worker_without_a_gpu_never_loads_the_binding() -> None:
    script = """
import sys, json
import workers.host
from workers.gpus import GpuWatch
from workers.runtime.gpu_samples import gpu_samples
GpuWatch(()).present()
next(gpu_samples(()))
print(json.dumps("pynvml" in sys.modules))
"""
    assert child_run(script) is False


def _threads_join(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(30)
