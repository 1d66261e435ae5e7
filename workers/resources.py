"""Who holds which part of the machine: slots, cores, memory, disk, GPUs by uuid. Accounting only; the runtime enforces."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from workers.caps import Caps
from workers.protocol.messages import FreeResources, Gpu, Limits

DISK_RESERVE_BYTES = 2**30
"""What must stay free on the disk for the machine itself."""


class ResourcesExhaustedError(Exception):
    """An order needs more than is free here; the message names the resource, what is wanted and what is there."""


@dataclass(frozen=True)
class _Share:
    cpus: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: tuple[Gpu, ...] = ()


class Resources:
    """Shares of `caps`, by lease. `disk_free` tells the bytes free on the disk under the node home. Thread-safe."""

    def __init__(self, caps: Caps, *, disk_free: Callable[[], int]) -> None:
        self.caps = caps
        self._disk_free = disk_free
        self._shares: dict[UUID, _Share] = {}
        self._mutex = threading.Lock()

    def reserve(self, lease_id: UUID, limits: Limits, *, granted: tuple[Gpu, ...] = ()) -> tuple[Gpu, ...]:
        """Set aside what `limits` allow, and the GPUs that this lease gets; the same lease again gets the same.

        `granted` are GPUs that it has got already, before a restart.

        Raises ResourcesExhaustedError, and then nothing was set aside.
        """
        with self._mutex:
            if lease_id in self._shares:
                return self._shares[lease_id].gpus
            free = self._free()
            needs = (
                ("slots", 1, free.slots),
                ("cpus", limits.cpus, free.cpus),
                ("bytes of memory", limits.memory_bytes, free.memory_bytes),
                ("bytes of disk", limits.disk_bytes + limits.output_bytes, free.disk_bytes),
                ("GPUs", limits.gpus, len(free.gpus)),
            )
            for what, wanted, found in needs:
                if wanted > found:
                    raise ResourcesExhaustedError(f"The order needs {wanted} {what}; this node has {found} free.")
            gpus = granted or free.gpus[: limits.gpus]
            share = _Share(limits.cpus, limits.memory_bytes, limits.disk_bytes + limits.output_bytes, gpus)
            self._shares[lease_id] = share
            return share.gpus

    def hold_slot(self, lease_id: UUID) -> None:
        """Count a lease that has nothing left to run but still has to be reported."""
        with self._mutex:
            self._shares.setdefault(lease_id, _Share())

    def release(self, lease_id: UUID) -> None:
        """Give back what the lease holds, if it holds anything."""
        with self._mutex:
            self._shares.pop(lease_id, None)

    def free(self) -> FreeResources:
        """What could be reserved now."""
        with self._mutex:
            return self._free()

    def _free(self) -> FreeResources:
        shares = self._shares.values()
        taken = {gpu.uuid for share in shares for gpu in share.gpus}
        disk_reserved = sum(share.disk_bytes for share in shares)
        disk_bytes = min(self.caps.disk_bytes - disk_reserved, self._disk_free() - DISK_RESERVE_BYTES - disk_reserved)
        return FreeResources(
            slots=max(0, self.caps.slots - len(shares)),
            # Rounded, so that tenths of a core given and taken leave no dust that refuses a whole core.
            cpus=max(0.0, round(self.caps.cpus - sum(share.cpus for share in shares), 6)),
            memory_bytes=max(0, self.caps.memory_bytes - sum(share.memory_bytes for share in shares)),
            disk_bytes=max(0, disk_bytes),
            gpus=tuple(gpu for gpu in self.caps.gpus if gpu.uuid not in taken),
        )


NOTHING_FREE = FreeResources(slots=0, cpus=0, memory_bytes=0, disk_bytes=0)
"""What a worker that wants no work reports: the exchange is then a heartbeat only."""
