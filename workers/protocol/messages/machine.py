"""What a machine is, as its host says it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from workers.protocol.messages.base import Message, ShortText, Whole


class Tier(StrEnum):
    """A class of hardware, and the name of its queue; ``rank`` is the ``tier`` number of a descriptor."""

    CPU = "cpu"
    GPU_TIER1 = "gpu-tier1"
    GPU_TIER2 = "gpu-tier2"
    GPU_TIER3 = "gpu-tier3"

    @property
    def rank(self) -> int:
        return list(Tier).index(self)

    @classmethod
    def of_rank(cls, rank: int) -> Tier:
        return list(cls)[rank]


class Gpu(Message):
    """One GPU as NVML reports it."""

    index: Whole
    uuid: ShortText
    name: ShortText
    memory_bytes: Whole
    driver_version: ShortText = ""


class EngineProfile(Message):
    """The container engine of a host. ``limits_ignored`` names limits that it would accept and not enforce.

    ``runtime`` is what runs its containers: ``runc`` and its like share the host's kernel, ``runsc`` is gVisor, which has its own.
    """

    name: ShortText
    version: ShortText
    cgroup_version: Literal["1", "2", "unknown"]
    rootless: bool
    runtime: ShortText = ""
    limits_ignored: tuple[ShortText, ...] = ()

    @property
    def title(self) -> str:
        """The engine in a few words, as receipts name it."""
        return f"{self.name} {self.version}" + (f" ({self.runtime})" if self.runtime else "")


class NodeProfile(Message):
    """What a host says it is. A claim: it decides the tier, never pay."""

    hostname_hint: ShortText = ""
    os: ShortText
    architecture: ShortText
    cpu_model: ShortText
    cores: int = Field(ge=1, le=4096)
    memory_bytes: Whole = Field(ge=1)
    disk_free_bytes: Whole
    gpus: tuple[Gpu, ...] = Field(default=(), max_length=64)
    engine: EngineProfile
    benchmark_gflops: float = Field(gt=0, lt=1e9, description="double precision GFLOP/s of one core, measured by the host")
    software_version: ShortText
