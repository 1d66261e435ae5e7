"""Who holds which part of the machine: slots, cores, memory, disk, GPUs by uuid. Accounting only; the runtime enforces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from workers.caps import Caps
from workers.protocol.messages.exchange import FreeResources
from workers.protocol.messages.machine import Gpu
from workers.protocol.messages.order import Limits
from workers.protocol.room import Need, NoRoomError, Room, millicores_free, millicores_needed


class ResourcesExhaustedError(Exception):
    """An order needs more than is free here; the message names the resource, what is wanted and what is there."""


@dataclass(frozen=True)
class _Share:
    """What one lease holds. `need` None: its slot only."""

    need: Need | None = None
    gpus: tuple[Gpu, ...] = ()

    @property
    def millicores(self) -> int:
        return millicores_needed(self.need.cpus) if self.need else 0

    @property
    def memory_bytes(self) -> int:
        return self.need.memory_bytes if self.need else 0

    @property
    def disk_bytes(self) -> int:
        return self.need.disk_bytes if self.need else 0


_SLOT = _Share()


class Resources:
    """Shares of `caps`, by lease. What fits, and which GPUs are given, is decided as in workers/protocol/room.py. Thread-safe.

    `disk_free` tells the bytes that runs could have on the disk, `disk_written` how many a lease has written of those set aside for it,
    `gpus_present` the lent GPUs that answer at the moment (None: all do). All are asked each time, so they must be quick.
    """

    def __init__(
        self,
        caps: Caps,
        *,
        disk_free: Callable[[], int],
        disk_written: Callable[[UUID], int] = lambda _: 0,
        gpus_present: Callable[[], Sequence[Gpu]] | None = None,
    ) -> None:
        self.caps = caps
        self._disk_free = disk_free
        self._disk_written = disk_written
        self._gpus_present = gpus_present or (lambda: caps.gpus)
        self._shares: dict[UUID, _Share] = {}
        self._mutex = threading.Lock()

    def reserve(self, lease_id: UUID, limits: Limits) -> tuple[Gpu, ...]:
        """Set aside what `limits` allow, and the GPUs that this lease gets; the same lease again gets the same.

        Raises ResourcesExhaustedError, and then the lease holds what it held before: nothing, or a slot.
        """
        need = Need.of(limits)
        with self._mutex:
            share = self._shares.get(lease_id, _SLOT)
            if share.need is not None:
                return share.gpus
            try:
                given = Room(self._free(without=lease_id)).take(need)
            except NoRoomError as error:
                message = f"The order needs {error.wanted} {error.what}; this node has {error.found} free."
                raise ResourcesExhaustedError(message) from error
            self._shares[lease_id] = _Share(need, given)
            return given

    def book(self, lease_id: UUID, limits: Limits, gpus: tuple[Gpu, ...]) -> None:
        """Count what a run that goes on holds already, whether it would fit now or not, with the GPUs that it got."""
        with self._mutex:
            self._shares[lease_id] = _Share(Need.of(limits), gpus)

    def hold_slot(self, lease_id: UUID) -> None:
        """Count a lease that has nothing to run now but still has to be reported, or cannot have what it needs."""
        with self._mutex:
            self._shares.setdefault(lease_id, _SLOT)

    def release(self, lease_id: UUID) -> None:
        """Give back what the lease holds, if it holds anything."""
        with self._mutex:
            self._shares.pop(lease_id, None)

    def disk_owed(self) -> dict[UUID, int]:
        """By lease, the bytes that it may still write."""
        with self._mutex:
            return self._disk_owed()

    def free(self) -> FreeResources:
        """What could be reserved now."""
        with self._mutex:
            return self._free()

    def _free(self, *, without: UUID | None = None) -> FreeResources:
        """`without`: as if this lease held nothing."""
        shares = [share for lease_id, share in self._shares.items() if lease_id != without]
        taken = {gpu.uuid for share in shares for gpu in share.gpus}
        disk_reserved = sum(share.disk_bytes for share in shares)
        disk_bytes = min(
            self.caps.disk_bytes - disk_reserved,
            self._disk_free() - sum(owed for lease_id, owed in self._disk_owed().items() if lease_id != without),
        )
        return FreeResources(
            slots=max(0, self.caps.slots - len(shares)),
            cpus=max(0, millicores_free(self.caps.cpus) - sum(share.millicores for share in shares)) / 1000,
            memory_bytes=max(0, self.caps.memory_bytes - sum(share.memory_bytes for share in shares)),
            disk_bytes=max(0, disk_bytes),
            gpus=tuple(gpu for gpu in self._gpus_present() if gpu.uuid not in taken),
        )

    def _disk_owed(self) -> dict[UUID, int]:
        return {lease_id: max(0, share.disk_bytes - self._disk_written(lease_id)) for lease_id, share in self._shares.items()}


def lent(caps: Caps) -> FreeResources:
    """All that the caps allow, as if nothing ran."""
    return FreeResources(
        slots=caps.slots, cpus=caps.cpus, memory_bytes=caps.memory_bytes, disk_bytes=max(0, caps.disk_bytes), gpus=caps.gpus
    )


NOTHING_FREE = FreeResources(slots=0, cpus=0, memory_bytes=0, disk_bytes=0)
"""What a worker that wants no work reports: the exchange is then a heartbeat only."""
