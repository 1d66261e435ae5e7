"""One rule for what fits: the coordinator packs by it, the host sets aside by it, in whichever order."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.caps import Caps
from workers.protocol.messages.exchange import FreeResources
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.protocol.room import Need, NoRoomError, Room
from workers.resources import Resources, ResourcesExhaustedError

GIB = 2**30


def gpus_of(*gib: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=index, uuid=f"GPU-{index}", name="T", memory_bytes=size * GIB) for index, size in enumerate(gib))


def room_of(**fields: object) -> Room:
    whole = {"slots": 9, "cpus": 8.0, "memory_bytes": 64 * GIB, "disk_bytes": 64 * GIB, "gpus": ()}
    return Room(FreeResources.model_validate({**whole, **fields}))


def need_of(**fields: float) -> Need:
    return Need(**{"cpus": 1, "memory_bytes": GIB, "disk_bytes": GIB, **fields})  # type: ignore[arg-type]  # whole numbers stay whole


@pytest.mark.parametrize(
    ("need", "what"),
    [
        (need_of(cpus=8.001), "cpus"),
        (need_of(memory_bytes=64 * GIB + 1), "bytes of memory"),
        (need_of(disk_bytes=64 * GIB + 1), "bytes of disk"),
        (need_of(gpus=4), "GPUs"),
        (need_of(gpus=2, gpu_memory_bytes=20 * GIB), f"GPUs with {20 * GIB} bytes of memory each"),
    ],
)
def test_what_does_not_fit_takes_nothing_and_is_named(need: Need, what: str) -> None:
    room = room_of(gpus=gpus_of(8, 24, 16))
    with pytest.raises(NoRoomError) as caught:
        room.take(need)
    assert caught.value.what == what
    assert (room.slots, room.cpus, room.memory_bytes, room.disk_bytes, len(room.gpus)) == (9, 8.0, 64 * GIB, 64 * GIB, 3)


def test_without_a_slot_nothing_fits() -> None:
    with pytest.raises(NoRoomError, match="1 slots wanted, 0 free"):
        room_of(slots=0).take(need_of())


def test_the_smallest_gpus_that_fit_are_given_and_of_equals_the_first() -> None:
    room = room_of(gpus=gpus_of(24, 8, 16, 8))
    assert [gpu.index for gpu in room.take(need_of(gpus=2, gpu_memory_bytes=12 * GIB))] == [2, 0]
    assert [gpu.index for gpu in room.take(need_of(gpus=1))] == [1]
    assert [gpu.index for gpu in room.take(need_of(gpus=1))] == [3]


def test_thirds_and_tenths_of_cores_add_up() -> None:
    room = room_of(slots=10, cpus=1)
    for _ in range(10):
        room.take(need_of(cpus=0.1))
    assert room.cpus == 0
    thirds = room_of(cpus=4)
    for _ in range(2):
        thirds.take(need_of(cpus=4 / 3))
    assert thirds.cpus == 1.332  # a third is rounded up to 1.334


NEEDS = st.builds(
    Limits,
    wall_seconds=st.just(1),
    pids=st.just(1),
    cpus=st.one_of(st.floats(0.01, 3), st.sampled_from([0.1, 1 / 3, 4 / 3])),
    memory_bytes=st.integers(2**24, 8 * GIB),
    disk_bytes=st.integers(2**20, 8 * GIB),
    output_bytes=st.integers(1, 2 * GIB),
    gpus=st.integers(0, 3),
    gpu_memory_bytes=st.sampled_from([0, 8 * GIB, 12 * GIB, 16 * GIB, 24 * GIB]),
)
CAPS = st.builds(
    Caps,
    slots=st.integers(1, 8),
    cpus=st.floats(0.5, 8),
    memory_bytes=st.integers(GIB, 32 * GIB),
    disk_bytes=st.integers(GIB, 32 * GIB),
    gpus=st.lists(st.sampled_from([6, 8, 12, 16, 24]), max_size=6).map(lambda sizes: gpus_of(*sizes)),
)


@given(caps=CAPS, before=st.lists(NEEDS, max_size=3), wanted=st.lists(NEEDS, max_size=8), data=st.data())
def test_whatever_the_coordinator_packs_the_host_can_set_aside_in_any_order(
    caps: Caps, before: list[Limits], wanted: list[Limits], data: st.DataObject
) -> None:
    resources = Resources(caps, disk_free=lambda: 100 * GIB)
    for number, limits in enumerate(before):
        with suppress(ResourcesExhaustedError):
            resources.reserve(UUID(int=1000 + number), limits)
    room = Room(FreeResources.model_validate_json(resources.free().model_dump_json()))
    packed = []
    for limits in wanted:
        try:
            room.take(Need.of(limits))
        except NoRoomError:
            continue
        packed.append(limits)
    given: set[str] = set()
    for number, limits in enumerate(data.draw(st.permutations(packed))):
        gpus = resources.reserve(UUID(int=number), limits)
        assert len(gpus) == limits.gpus
        assert all(gpu.memory_bytes >= limits.gpu_memory_bytes for gpu in gpus)
        assert given.isdisjoint(gpu.uuid for gpu in gpus)
        given |= {gpu.uuid for gpu in gpus}
