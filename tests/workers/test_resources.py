"""Shares of a machine: never more than there is, whatever is reserved and released."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.caps import Caps
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.resources import Resources, ResourcesExhaustedError

GIB = 2**30
GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="T", memory_bytes=8 * GIB) for index in range(3))
CAPS = Caps(slots=4, cpus=4.0, memory_bytes=8 * GIB, disk_bytes=10 * GIB, gpus=GPUS)


def limits(**fields: Any) -> Limits:
    whole = {"wall_seconds": 1, "memory_bytes": GIB, "cpus": 1.0, "pids": 1, "disk_bytes": GIB, "output_bytes": 1}
    return Limits(**{**whole, **fields})


def resources_make(disk_free: int = 100 * GIB, **fields: Any) -> Resources:
    return Resources(CAPS, disk_free=lambda: disk_free, **fields)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (limits(cpus=4.5), "cpus"),
        (limits(memory_bytes=9 * GIB), "memory"),
        (limits(disk_bytes=10 * GIB), "disk"),
        (limits(gpus=4), "GPUs"),
    ],
)
def test_more_than_there_is_reserves_nothing(wanted: Limits, named: str) -> None:
    resources = resources_make()
    with pytest.raises(ResourcesExhaustedError, match=named):
        resources.reserve(uuid4(), wanted)
    assert resources.free().slots == 4


def test_gpus_are_given_out_by_uuid_once() -> None:
    resources = resources_make()
    first, second = uuid4(), uuid4()
    given_first = resources.reserve(first, limits(gpus=2))
    given_second = resources.reserve(second, limits(gpus=1))
    assert {gpu.uuid for gpu in given_first + given_second} == {gpu.uuid for gpu in GPUS}
    assert resources.reserve(first, limits(gpus=2)) == given_first
    with pytest.raises(ResourcesExhaustedError):
        resources.reserve(uuid4(), limits(gpus=1))
    resources.release(first)
    assert resources.free().gpus == given_first


def test_gpus_that_do_not_answer_are_not_given_out_until_they_are_back() -> None:
    present = list(GPUS)
    resources = resources_make(gpus_present=lambda: present)
    present.remove(GPUS[0])
    assert resources.free().gpus == GPUS[1:]
    assert resources.reserve(UUID(int=1), limits(gpus=1)) == (GPUS[1],)
    present.clear()  # the lease keeps what it was given: its container says how that goes
    assert resources.reserve(UUID(int=1), limits(gpus=1)) == (GPUS[1],)
    with pytest.raises(ResourcesExhaustedError, match="needs 1 GPUs; this node has 0 free"):
        resources.reserve(UUID(int=2), limits(gpus=1))
    present.extend(GPUS)
    assert resources.free().gpus == (GPUS[0], GPUS[2])


def test_lease_that_held_its_slot_only_is_given_the_rest_when_it_runs() -> None:
    resources = resources_make()
    for number in range(CAPS.slots):
        resources.hold_slot(UUID(int=number))
    assert resources.free().slots == 0
    assert resources.reserve(UUID(int=0), limits(gpus=2, cpus=3)) == GPUS[:2]
    resources.hold_slot(UUID(int=0))
    assert (resources.free().cpus, resources.free().gpus) == (1, GPUS[2:])
    with pytest.raises(ResourcesExhaustedError):
        resources.reserve(UUID(int=1), limits(gpus=2))
    resources.release(UUID(int=0))
    assert (resources.free().slots, resources.free().gpus) == (1, GPUS)


def test_run_of_an_earlier_process_keeps_the_gpus_that_it_has() -> None:
    resources = resources_make()
    gone = Gpu(index=7, uuid="GPU-7", name="T", memory_bytes=8 * GIB)
    resources.book(UUID(int=1), limits(gpus=2), (GPUS[1], gone))
    assert (resources.free().slots, resources.free().cpus, resources.free().gpus) == (3, 3.0, (GPUS[0], GPUS[2]))
    assert resources.reserve(UUID(int=1), limits(gpus=2)) == (GPUS[1], gone)


def test_run_of_an_earlier_process_is_counted_whether_it_fits_or_not() -> None:
    """It has written what was set aside for it, so there may be less room than it was given; its GPU is taken all the same."""
    resources = resources_make(disk_free=0)
    resources.book(UUID(int=1), limits(gpus=1), GPUS[:1])
    assert resources.free().gpus == GPUS[1:]


def test_full_disk_leaves_nothing_to_lend() -> None:
    assert resources_make(disk_free=0).free().disk_bytes == 0
    assert resources_make(disk_free=-GIB).free().disk_bytes == 0


def test_what_runs_have_written_is_not_set_aside_twice() -> None:
    first, second, disk_free = uuid4(), uuid4(), 6 * GIB
    written: dict[UUID, int] = {}
    resources = Resources(CAPS, disk_free=lambda: disk_free, disk_written=lambda lease_id: written.get(lease_id, 0))
    for lease in (first, second):
        resources.reserve(lease, limits(disk_bytes=2 * GIB - 1))
    assert resources.free().disk_bytes == 2 * GIB
    written[first], disk_free = GIB, 5 * GIB
    assert (resources.free().disk_bytes, resources.disk_owed()) == (2 * GIB, {first: GIB, second: 2 * GIB})
    written[first], disk_free = 3 * GIB, 3 * GIB  # more than it may: it is about to be stopped, and makes nothing free
    assert resources.free().disk_bytes == GIB
    resources.release(first)
    assert resources.free().disk_bytes == GIB


def test_tenths_of_cores_leave_no_dust() -> None:
    resources = resources_make()
    leases = [uuid4() for _ in range(3)]
    for lease in leases:
        resources.reserve(lease, limits(cpus=0.1))
    assert resources.free().cpus == 3.7
    for lease in leases:
        resources.release(lease)
    assert resources.reserve(uuid4(), limits(cpus=4.0)) == ()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0.1, 5), st.integers(2**24, 9 * GIB), st.integers(0, 4)), max_size=40)
)
def test_never_more_than_the_caps(steps: list[tuple[int, bool, float, int, int]]) -> None:
    resources = resources_make()
    held: dict[UUID, tuple[float, int, set[str]]] = {}
    for number, take, cpus, memory_bytes, gpus in steps:
        lease = UUID(int=number)
        if not take:
            resources.release(lease)
            held.pop(lease, None)
            continue
        try:
            found = resources.reserve(lease, limits(cpus=cpus, memory_bytes=memory_bytes, disk_bytes=2**20, gpus=gpus))
        except ResourcesExhaustedError:
            continue
        held.setdefault(lease, (cpus, memory_bytes, {gpu.uuid for gpu in found}))
        assert len(held) <= CAPS.slots
        assert sum(share[0] for share in held.values()) <= CAPS.cpus + 1e-5
        assert sum(share[1] for share in held.values()) <= CAPS.memory_bytes
        assert sum(len(share[2]) for share in held.values()) == len(set().union(*(share[2] for share in held.values())))
