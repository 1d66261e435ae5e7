"""What fits into what a host has free. The coordinator packs by these rules and the host sets aside by them: one rule, stated once. Pure.

1. A run takes a slot, cores, memory, disk for its files and once more for the archive of its outputs, and `gpus` GPUs that have
   `gpu_memory_bytes` each.
2. Cores are counted in whole thousandths, what is needed rounded up and what is free rounded down, so that no sum depends on its order.
3. Of the free GPUs that are large enough the smallest are taken; of equal ones those of the lowest index.
4. Hence the order does not matter: runs that fit together in one order fit in every other (a smallest GPU that fits can be exchanged
   for whichever another packing had given). So what the coordinator packs, the host can set aside, in whichever order it hears of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from workers.protocol.messages.exchange import FreeResources
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits


@dataclass(frozen=True, slots=True)
class Need:
    """What one run takes beside its slot."""

    cpus: float
    memory_bytes: int
    disk_bytes: int
    gpus: int = 0
    gpu_memory_bytes: int = 0

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """What a host sets aside for an order with these limits."""
        return cls(limits.cpus, limits.memory_bytes, limits.disk_bytes + limits.output_bytes, limits.gpus, limits.gpu_memory_bytes)


class NoRoomError(Exception):
    """It does not fit: `wanted` of `what`, with `found` there."""

    def __init__(self, what: str, wanted: float, found: float) -> None:
        super().__init__(f"{wanted:.15g} {what} wanted, {found:.15g} free")
        self.what, self.wanted, self.found = what, f"{wanted:.15g}", f"{found:.15g}"


class Room:
    """What a host has free, less what was taken. Not thread-safe."""

    def __init__(self, free: FreeResources) -> None:
        self.slots = free.slots
        self._millicores = millicores_free(free.cpus)
        self.memory_bytes = free.memory_bytes
        self.disk_bytes = free.disk_bytes
        self.gpus = sorted(free.gpus, key=lambda gpu: (gpu.memory_bytes, gpu.index, gpu.uuid))
        """Smallest first."""

    @property
    def cpus(self) -> float:
        return self._millicores / 1000

    def take(self, need: Need) -> tuple[Gpu, ...]:
        """The GPUs given to `need`, which has its place from now on. Raises NoRoomError, and then nothing was taken."""
        wanted_millicores = millicores_needed(need.cpus)
        large_enough = [gpu for gpu in self.gpus if gpu.memory_bytes >= need.gpu_memory_bytes]
        balances = (
            ("slots", 1, self.slots),
            ("cpus", wanted_millicores / 1000, self.cpus),
            ("bytes of memory", need.memory_bytes, self.memory_bytes),
            ("bytes of disk", need.disk_bytes, self.disk_bytes),
            (f"GPUs with {need.gpu_memory_bytes} bytes of memory each" if need.gpu_memory_bytes else "GPUs", need.gpus, len(large_enough)),
        )
        for what, wanted, found in balances:
            if wanted > found:
                raise NoRoomError(what, wanted, found)
        self.slots -= 1
        self._millicores -= wanted_millicores
        self.memory_bytes -= need.memory_bytes
        self.disk_bytes -= need.disk_bytes
        given = large_enough[: need.gpus]
        for gpu in given:
            self.gpus.remove(gpu)
        return tuple(given)


def millicores_needed(cpus: float) -> int:
    """Thousandths of a core that `cpus` take: rounded up, except for the dust of binary fractions."""
    return math.ceil(round(cpus * 1000, 6))


def millicores_free(cpus: float) -> int:
    """Thousandths of a core that `cpus` have to give: rounded down, with the same exception."""
    return math.floor(round(cpus * 1000, 6))
