"""What a host is to run."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from workers.protocol.digests import Digest
from workers.protocol.messages.base import Message, OutputPath, ShortText, Whole
from workers.protocol.messages.machine import Tier


class ImageReference(Message):
    """An image pinned by content: `pull` is `name@sha256:…` of a registry, or None for one loaded by hand; `image_id` then names it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    pull: str | None = None
    image_id: Digest | None = None

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.pull is None and self.image_id is None:
            raise ValueError("an image must be pinned: give `pull` (name@sha256:…) or `image_id`")
        return self


class OrderInput(Message):
    """One read-only input file under /inputs; fetched from `url`, believed only if it has `digest` and `size_bytes`."""

    path: OutputPath
    digest: Digest
    size_bytes: Whole
    url: str


class ExpectedOutput(Message):
    """One file that the container is expected to leave under /outputs."""

    path: OutputPath
    required: bool = True
    media_type: ShortText = "application/octet-stream"


class Limits(Message):
    """What one run may use; every one is enforced by the host."""

    wall_seconds: int = Field(ge=1, le=30 * 86400)
    memory_bytes: Whole = Field(ge=16 * 2**20)
    cpus: float = Field(gt=0, le=1024)
    pids: int = Field(ge=1, le=32768)
    disk_bytes: Whole = Field(ge=2**20)
    output_bytes: Whole = Field(ge=1)
    gpus: int = Field(default=0, ge=0, le=64)
    gpu_memory_bytes: Whole = Field(default=0, description="what each granted GPU has at least")


class Order(Message):
    """The payload of an order envelope, signed by the coordinator. It never tells whether the job is replicated, nor the job's id."""

    order_version: Literal[1] = 1
    replica_id: UUID
    lease_id: UUID
    node_key_id: Digest
    origin: str
    issued_at: AwareDatetime
    deadline_at: AwareDatetime
    tier: Tier
    job_type: ShortText
    credit_rate_micro: Whole = Field(description="what the job offers for 1 TFLOP/s-hour, in millionths of a credit")
    image: ImageReference
    command: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    inputs: tuple[OrderInput, ...] = ()
    outputs: tuple[ExpectedOutput, ...] = ()
    limits: Limits
