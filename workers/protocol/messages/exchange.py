"""The signed long poll: what a host could start, does and wants; orders, renewals and commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from workers.protocol.messages.base import Json, Message, ShortText, Whole
from workers.protocol.messages.machine import Gpu, Tier

EXCHANGE_WAIT_SECONDS_MAX: Final = 25
PATTERNS_MAX: Final = 32
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._:/@+*-]+$")]
"""What names of images and job types are made of, and `*`."""


class FreeResources(Message):
    """What a host could start now. `slots` 0 asks for no work: the exchange is a heartbeat and a renewal only."""

    slots: int = Field(ge=0, le=256)
    cpus: float = Field(ge=0, le=4096)
    memory_bytes: Whole
    disk_bytes: Whole
    gpus: tuple[Gpu, ...] = Field(default=(), max_length=64)


class Wishes(Message):
    """What a contributor lets run. Only `*` means something in a pattern: any characters, also none, also `/`. No pattern: nothing."""

    images: tuple[Pattern, ...] = Field(default=("*",), max_length=PATTERNS_MAX, description="of an image's name and tag")
    job_types: tuple[Pattern, ...] = Field(default=("*",), max_length=PATTERNS_MAX)
    credit_rate_min: float = Field(default=0, ge=0, le=1000, description="the least that a job offers, in credits for 1 TFLOP/s-hour")

    @property
    def credit_rate_min_micro(self) -> int:
        return round(self.credit_rate_min * 1_000_000)


class Stage(StrEnum):
    """What a host is doing with a lease."""

    ACCEPTED = "accepted"
    FETCHING = "fetching"
    PULLING = "pulling"
    RUNNING = "running"
    ARCHIVING = "archiving"
    UPLOADING = "uploading"


class LeaseReport(Message):
    """One running lease: renews it and shows progress (0 to 1, `None` when unknown)."""

    lease_id: UUID
    stage: Stage
    progress: float | None = Field(default=None, ge=0, le=1)
    message: ShortText = ""
    elapsed_seconds: float = Field(ge=0)
    cpu_percent: float | None = Field(default=None, ge=0)
    memory_bytes: Whole | None = None


class MachineLoad(Message):
    """What the whole machine does, its owner's own work included, as its sensors tell. None: not told, or no such thing.

    Percentages are means over the host's last few seconds, of all cores and of the lent GPUs; temperatures the highest of their kind.
    """

    cpu_percent: float | None = Field(default=None, ge=0, le=100)
    memory_percent: float | None = Field(default=None, ge=0, le=100)
    gpu_percent: float | None = Field(default=None, ge=0, le=100)
    cpu_celsius: float | None = Field(default=None, ge=0, le=200)
    gpu_celsius: float | None = Field(default=None, ge=0, le=200)


class NoWork(Message):
    """Why a host gets no work, or wants none: a stable code and a sentence for the contributor."""

    code: ShortText
    message: Annotated[str, StringConstraints(max_length=500)]


class ExchangeRequest(Message):
    """`POST /api/v1/exchange`. The same `request_id` returns the same orders as long as their leases live."""

    protocol_version: int
    request_id: UUID
    wait_seconds: float = Field(ge=0, le=EXCHANGE_WAIT_SECONDS_MAX)
    queues: tuple[Tier, ...] = Field(min_length=1, max_length=4)
    free: FreeResources
    leases: tuple[LeaseReport, ...] = Field(default=(), max_length=256)
    session_id: UUID = Field(description="made anew by each start of a worker; one that comes back after another was seen is a copied key")
    wishes: Wishes = Wishes()
    hold: NoWork | None = Field(
        default=None, description="why the host itself wants no work now; None when it does, or only has no slot free"
    )
    machine: MachineLoad | None = Field(default=None, description="shown to the node's owner and to nobody else; decides nothing")
    software_version: ShortText = Field(default="", description="of the host software; empty: not told. Whether an upgrade is advised")


class CommandKind(StrEnum):
    """What the coordinator may tell a host. `cancel` names a lease; the others concern the node."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    UPGRADE = "upgrade"


class Command(Message):
    """Repeated in each answer until it no longer applies, so that a lost answer loses no command; idempotent."""

    kind: CommandKind
    lease_id: UUID | None = None
    reason: ShortText


class Renewal(Message):
    """A lease that this exchange renewed, with its new expiry by the coordinator's clock."""

    lease_id: UUID
    expires_at: AwareDatetime


class ExchangeAnswer(Message):
    """`orders` are DSSE envelopes; `no_work` is set when slots were asked for and none came; `checkpoint` is a signed note."""

    protocol_version: int
    request_id: UUID
    server_time: AwareDatetime
    orders: tuple[dict[str, Json], ...] = ()
    renewed: tuple[Renewal, ...] = ()
    commands: tuple[Command, ...] = ()
    no_work: NoWork | None = None
    checkpoint: str | None = None
