"""What a run gave: the predicate of a receipt, and the manifest of its archive."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from workers.protocol.canonical import INTEGER_LIMIT
from workers.protocol.digests import Digest
from workers.protocol.messages.base import Message, OutputPath, ShortText, Whole

RECEIPT_PREDICATE_TYPE: Final = "https://nexapod.org/receipt/v1"


class FailureCode(StrEnum):
    """Why a run ended without a result. The prefix says whose fault: `host_` the host's, `cancelled` nobody's, any other the job's."""

    IMAGE_UNAVAILABLE = "image_unavailable"
    INPUT_UNAVAILABLE = "input_unavailable"
    INPUT_MISMATCH = "input_mismatch"
    EXIT_NONZERO = "exit_nonzero"
    LIMIT_WALL = "limit_wall"
    LIMIT_MEMORY = "limit_memory"
    LIMIT_DISK = "limit_disk"
    LIMIT_OUTPUT = "limit_output"
    OUTPUT_MISSING = "output_missing"
    OUTPUT_REFUSED = "output_refused"
    CANCELLED = "cancelled"
    HOST_ENGINE = "host_engine"
    HOST_DISK = "host_disk"
    HOST_REFUSED = "host_refused"
    HOST_STOPPED = "host_stopped"
    HOST_GAVE_UP = "host_gave_up"
    HOST_ERROR = "host_error"


class Failure(Message):
    """A typed failure; the message is for the researcher and carries no host path."""

    code: FailureCode
    message: Annotated[str, StringConstraints(max_length=1000)]


class GpuUsage(Message):
    """What one run made of one granted GPU, by samples of NVML; None where the GPU does not tell. Integrals: first to last sample."""

    name: ShortText
    utilisation_seconds: float | None = Field(default=None, ge=0, description="integral of utilisation (0 to 1) over time")
    memory_peak_bytes: Whole | None = None
    temperature_peak_celsius: float | None = None
    energy_joules: float | None = Field(default=None, ge=0, description="integral of power over time")


class Usage(Message):
    """What one run used: peaks and integrals. None: not measured, which is not nothing."""

    wall_seconds: float = Field(ge=0)
    cpu_seconds: float = Field(ge=0)
    memory_peak_bytes: Whole
    memory_byte_seconds: float | None = Field(default=None, ge=0, description="integral of memory over time, from first to last sample")
    pids_peak: Whole | None = None
    read_bytes: Whole | None = None
    written_bytes: Whole | None = None
    samples: Whole
    gpu_seconds: float | None = Field(default=None, ge=0, description="granted GPUs times wall seconds")
    gpus: tuple[GpuUsage, ...] = Field(default=(), max_length=64)


class StoredObject(Message):
    """A blob: what it hashes to and how long it is."""

    digest: Digest
    size_bytes: Whole


class LogReference(StoredObject):
    """The compute log: `head` is the hash of its last line (see workers/compute_log.py), `lines` their number."""

    head: Digest
    lines: Whole = Field(ge=1)


class ReceiptPredicate(Message):
    """The predicate of a receipt statement. Completed runs carry `archive` and `result_digest` (the manifest's digest)."""

    receipt_version: Literal[1] = 1
    order_digest: Digest
    replica_id: UUID
    lease_id: UUID
    node_key_id: Digest
    started_at: AwareDatetime
    finished_at: AwareDatetime
    outcome: Literal["completed", "failed"]
    exit_code: int | None = Field(default=None, ge=-INTEGER_LIMIT, le=INTEGER_LIMIT)
    failure: Failure | None = None
    result_digest: Digest | None = None
    archive: StoredObject | None = None
    log: LogReference
    usage: Usage
    benchmark_gflops: float = Field(gt=0)
    image_id: Digest | None = None
    engine: ShortText = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.outcome == "completed" and (self.archive is None or self.result_digest is None or self.exit_code != 0 or self.failure):
            raise ValueError("a completed receipt carries archive, result_digest and exit_code 0, and no failure")
        if self.outcome == "failed" and self.failure is None:
            raise ValueError("a failed receipt carries a failure")
        return self


class ManifestFile(Message):
    """One regular file of an archive."""

    path: OutputPath
    digest: Digest
    size_bytes: Whole


class Manifest(Message):
    """The list of an archive's files, sorted by path; the digest of its canonical JSON is the result digest."""

    manifest_version: Literal[1] = 1
    files: tuple[ManifestFile, ...]
