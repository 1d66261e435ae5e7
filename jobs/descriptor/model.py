"""The job descriptor, schema version 1.0: what a researcher asks for, field by field.

A descriptor that validates is well-formed; `jobs.descriptor.consistency` says whether its parts fit each other,
`jobs.matching.requirements` whether any machine could run it, and the submission service whether this person may run it now. Sizes in a
descriptor are decimal, as hardware is sold: 1 GB is 10^9 bytes, 1 MB is 10^6. Absent optional fields are `None`; the derived properties
give what is meant then.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder, format_of
from workers.protocol.canonical import INTEGER_LIMIT
from workers.protocol.digests import Digest
from workers.protocol.messages.base import OutputPath
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ExpectedOutput, Limits
from workers.protocol.room import Need, millicores_needed

SCHEMA_VERSION: Final = "1.0"
DESCRIPTOR_BYTES_MAX: Final = 512 * 1024
"""Of the JSON document as sent."""

MB: Final = 10**6
GB: Final = 10**9
MEMORY_MB_MIN: Final = 17
DISK_MB_MIN: Final = 2
COPIES_MAX: Final = 16
FILES_MAX: Final = 1000
KEY_COLUMNS_MAX: Final = 16

WALL_SECONDS_DEFAULT: Final = 3600
MEMORY_MB_DEFAULT: Final = 2048
DISK_MB_DEFAULT: Final = 4096
OUTPUT_MB_DEFAULT: Final = 1024
PIDS_DEFAULT: Final = 512
QUEUE_DEADLINE_SECONDS_DEFAULT: Final = 7 * 86400
SPOT_SHARE_DEFAULT: Final = 0.1

Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]*$")]
JobType = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Argument = Annotated[str, StringConstraints(max_length=4096)]
EnvironmentName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvironmentValue = Annotated[str, StringConstraints(max_length=8192)]
MediaType = Annotated[str, StringConstraints(max_length=127, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$")]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
"""Of a requirement: wide enough for anything imaginable, so that what is too much is answered by `requirements_impossible`."""


class DescriptorPart(BaseModel):
    """Base of all parts: frozen, unknown fields, NaN and infinity refused. The parser is strict about types as well."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Requirements(DescriptorPart):
    """What a node must have free to be given the job. Absent: what `limits` allows the container, and a GPU where `tier` is a GPU tier."""

    gpu: bool | None = Field(default=None, description="whether the job needs a GPU; must agree with `tier`")
    gpu_count: int | None = Field(default=None, ge=0, le=10**6, description="how many GPUs; absent: one on a GPU tier, else none")
    vram_gb: Amount | None = Field(default=None, description="memory of each GPU, in units of 10^9 bytes")
    ram_gb: Amount | None = Field(default=None, description="main memory, in units of 10^9 bytes")
    cores: Amount | None = Field(default=None, description="processor cores; absent: as many as `limits` lets the container use")
    disk_gb: Amount | None = Field(default=None, description="free disk, in units of 10^9 bytes")


class InputFile(DescriptorPart):
    """One input by digest: an upload of the submitter, or what the file of that `path` fetched from `input_uri` must hash to."""

    path: OutputPath = Field(description="where the run finds it, under /inputs")
    digest: Digest = Field(description="SHA-256 of its bytes: sha256: and 64 hexadecimal digits")
    size_bytes: int | None = Field(default=None, ge=0, le=2**53 - 1, description="checked where it is given")


class OutputFile(DescriptorPart):
    """One file that the container is expected to leave under /outputs."""

    path: OutputPath = Field(description="where the run leaves it, under /outputs")
    required: bool = Field(default=True, description="whether a run without it has failed")
    media_type: MediaType = Field(default="application/octet-stream", description="how a reader shows it, such as text/csv")


class RunLimits(DescriptorPart):
    """What one run may use. Absent: what `requirements` names, else the default (docs/PROTOCOL.md lists them)."""

    wall_seconds: int | None = Field(
        default=None, ge=1, le=30 * 86400, description=f"time from the container's start; absent: {WALL_SECONDS_DEFAULT}"
    )
    memory_mb: int | None = Field(
        default=None,
        ge=MEMORY_MB_MIN,
        le=10**9,
        description=f"main memory, in units of 10^6 bytes; absent: ram_gb, else {MEMORY_MB_DEFAULT}",
    )
    cpus: float | None = Field(default=None, gt=0, le=1024, description="cores at a time; absent: cores, else 1")
    pids: int | None = Field(default=None, ge=1, le=32768, description=f"processes and threads at a time; absent: {PIDS_DEFAULT}")
    disk_mb: int | None = Field(
        default=None,
        ge=DISK_MB_MIN,
        le=10**9,
        description=f"what it writes, in units of 10^6 bytes; absent: disk_gb, else {DISK_MB_DEFAULT}",
    )
    output_mb: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description=f"files under /outputs, in units of 10^6 bytes; absent: {OUTPUT_MB_DEFAULT}, or the disk if that is less",
    )


class ComparedColumn(DescriptorPart):
    """Tolerances of one column. Absent: those of its file."""

    absolute: float | None = Field(default=None, ge=0, description="in the column's own unit")
    relative: float | None = Field(default=None, ge=0, le=1, description="share of the value's magnitude")


class ComparedFile(DescriptorPart):
    """One output file whose values are compared: equal within `absolute + relative * magnitude`. No `relative`: the job's `tolerance`."""

    path: OutputPath = Field(description="one of `outputs`, and a required one")
    format: FileFormat | None = Field(default=None, description="absent: by the ending of `path`")
    absolute: float | None = Field(default=None, ge=0, description="in the values' own unit; absent: none")
    relative: float | None = Field(default=None, ge=0, le=1, description="share of the value's magnitude; absent: the job's `tolerance`")
    columns: dict[ColumnName, ComparedColumn] | None = Field(
        default=None,
        min_length=1,
        max_length=FILES_MAX,
        description="tolerances of single columns of a table (by number from 1 where it has no header), of members at the top of a JSON "
        "object, of fields of an npy array, of arrays of an npz; others have those of the file",
    )
    nan: NanPolicy = Field(
        default=NanPolicy.EQUAL,
        description="equal: not-a-number agrees with not-a-number; refuse: a file that holds one agrees with nothing",
    )
    header: bool | None = Field(
        default=None, description="of a table; absent: csv and tsv have one, text where no cell of its first row is a number"
    )
    order: RowOrder = Field(
        default=RowOrder.FIXED, description="of a table's rows. fixed: the first with the first; any: matched by the cells of `key`"
    )
    key: tuple[ColumnName, ...] = Field(
        default=(), max_length=KEY_COLUMNS_MAX, description="with `order` any: columns whose cells, taken exactly, tell rows apart"
    )
    superpose: bool = Field(default=True, description="of a structure: whether each model is moved onto its counterpart first")

    @property
    def read_as(self) -> FileFormat | None:
        """`format`, else what the ending stands for; None where that is unknown."""
        return self.format or format_of(self.path)


class VerificationMethod(StrEnum):
    """How two results are compared."""

    EXACT = "exact"
    NUMERIC = "numeric"


class RedundancyPolicy(StrEnum):
    """How it is decided how often a job runs."""

    FIXED = "fixed"
    SPOT = "spot"


class Verification(DescriptorPart):
    """How often the job runs and what counts as agreement. `files` empty: all of them, numeric where they can be."""

    method: VerificationMethod = Field(
        default=VerificationMethod.EXACT, description="exact: the same bytes; numeric: the same values within a tolerance"
    )
    policy: RedundancyPolicy = Field(
        default=RedundancyPolicy.FIXED,
        description="fixed: `copies`, of which `quorum` must agree; spot: once, or twice where a secret draw says so",
    )
    spot_share: float | None = Field(
        default=None, gt=0, le=1, description="of `spot` jobs: the share that runs twice; absent: 0.1", examples=[0.1]
    )
    copies: int = Field(default=1, ge=1, le=COPIES_MAX, description="replicas to begin with, each at another owner's node")
    quorum: int = Field(default=1, ge=1, le=COPIES_MAX, description="how many replicas must agree; at most `copies`")
    files: tuple[ComparedFile, ...] = Field(
        default=(),
        max_length=FILES_MAX,
        description="files with rules of their own; empty: all outputs are compared, numeric where they can be",
    )


class Visibility(StrEnum):
    """Who may see title, type, state, custody and verdict of the job beside its owner: nobody, whoever has its secret link, or anybody.

    Inputs and results are never public by this. Its owner can change it later.
    """

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


class Descriptor(DescriptorPart):
    """A job as its submitter writes it."""

    schema_version: Literal["1.0"] = Field(description="of this format")
    job_id: Label = Field(description="the submitter's own name for the job: sent twice under it, it is one job")
    type: JobType = Field(description="the kind of computation; contributors choose by it, and figures are kept by it")
    docker_image: str = Field(
        min_length=1, max_length=255, description="an approved image, such as name:tag; resolved to content and pinned at submission"
    )
    estimated_flops: float = Field(gt=0, le=1e22, description="floating point operations of one run; pay follows from it")
    input_files: tuple[OutputPath, ...] = Field(default=(), max_length=FILES_MAX, description="paths under /inputs")
    tier: int = Field(default=0, ge=0, le=3, description="0 cpu, 1 to 3 gpu-tier1 to gpu-tier3")
    requirements: Requirements = Requirements()
    input_uri: str | None = Field(
        default=None, min_length=1, max_length=2000, description="folder of `input_files`: https://…/; absent: uploads named in `inputs`"
    )
    tolerance: float = Field(default=0.0, ge=0, le=1, description="default relative tolerance of numeric comparison")
    credit_rate: float = Field(default=1.0, ge=0.001, le=1000, description="credits offered for 1 TFLOP/s-hour")

    title: str = Field(default="", max_length=200, description="one line for people")
    command: tuple[Argument, ...] = Field(default=(), max_length=256, description="empty: the image's own")
    arguments: tuple[Argument, ...] = Field(default=(), max_length=256, description="appended to `command`")
    environment: dict[EnvironmentName, EnvironmentValue] = Field(
        default_factory=dict, max_length=256, description="variables of the container; hosts read them, so put no secret here"
    )
    inputs: tuple[InputFile, ...] = Field(default=(), max_length=FILES_MAX, description="files that you have uploaded")
    outputs: tuple[OutputFile, ...] = Field(default=(), max_length=FILES_MAX, description="files that a run leaves under /outputs")
    limits: RunLimits = RunLimits()
    verification: Verification = Verification()
    priority: int = Field(default=0, ge=-10, le=10, description="before or behind other jobs of the tier")
    queue_deadline_seconds: int = Field(
        default=QUEUE_DEADLINE_SECONDS_DEFAULT, ge=1, le=90 * 86400, description="how long it may wait for a host before it fails unpaid"
    )
    visibility: Visibility = Field(default=Visibility.PRIVATE, description="public: strangers may see title, type and state, never files")

    @property
    def tier_name(self) -> Tier:
        return Tier.of_rank(self.tier)

    @property
    def gpus(self) -> int:
        """GPUs of one run: `gpu_count`, else one on a GPU tier and none on `cpu`."""
        if self.requirements.gpu_count is not None:
            return self.requirements.gpu_count
        return 1 if self.tier > 0 else 0

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory that each GPU must have; 0: whatever the tier has."""
        return int((self.requirements.vram_gb or 0) * GB)

    @property
    def run_limits(self) -> Limits:
        """`limits` with every absent value filled in, as an order carries them."""
        limits, needs = self.limits, self.requirements
        memory_bytes = (limits.memory_mb or 0) * MB or _bytes_of(needs.ram_gb, MEMORY_MB_DEFAULT, MEMORY_MB_MIN)
        disk_bytes = (limits.disk_mb or 0) * MB or _bytes_of(needs.disk_gb, DISK_MB_DEFAULT, DISK_MB_MIN)
        return Limits(
            wall_seconds=limits.wall_seconds or WALL_SECONDS_DEFAULT,
            memory_bytes=memory_bytes,
            cpus=limits.cpus or min(needs.cores or 1.0, 1024.0),
            pids=limits.pids or PIDS_DEFAULT,
            disk_bytes=disk_bytes,
            output_bytes=(limits.output_mb or 0) * MB or min(OUTPUT_MB_DEFAULT * MB, disk_bytes),
            gpus=min(self.gpus, 64),
            gpu_memory_bytes=min(self.gpu_memory_bytes, INTEGER_LIMIT),
        )

    @property
    def memory_bytes(self) -> int:
        """Memory that a node must have free: the requirement, never less than the container's limit."""
        return max(int((self.requirements.ram_gb or 0) * GB), self.run_limits.memory_bytes)

    @property
    def disk_bytes(self) -> int:
        """Disk that a node must have free: the requirement, never less than what the host sets aside for the container."""
        return max(int((self.requirements.disk_gb or 0) * GB), Need.of(self.run_limits).disk_bytes)

    @property
    def cpus(self) -> float:
        """Cores that a node must have free, in whole thousandths: the requirement, never less than the container's limit."""
        return millicores_needed(max(self.requirements.cores or 0.0, self.run_limits.cpus)) / 1000

    @property
    def argv(self) -> tuple[str, ...]:
        """What the container runs; empty: what its image says."""
        return (*self.command, *self.arguments)

    @property
    def expected_outputs(self) -> tuple[ExpectedOutput, ...]:
        """`outputs` as an order carries them."""
        return tuple(ExpectedOutput(path=each.path, required=each.required, media_type=each.media_type) for each in self.outputs)


def _bytes_of(required_gb: float | None, default_mb: int, least_mb: int) -> int:
    """The requirement in whole megabytes, as bytes; the default without one. At most what an order can say: no tier has that much."""
    return min(max(int(required_gb * GB) // MB, least_mb) * MB, INTEGER_LIMIT) if required_gb else default_mb * MB
