"""The messages between a host and the coordinator, as both sides read and write them.

Every message is a frozen pydantic model that refuses unknown fields; docs/PROTOCOL.md shows each with an example. Times are aware UTC
datetimes (RFC 3339 in JSON), sizes are bytes, digests are ``sha256:`` and 64 hex digits, keys are base64 of 32 raw bytes (Ed25519).
Nothing here does I/O and nothing here trusts its sender: a model that validates is well-formed, not true.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from workers.protocol.digests import Digest

PROTOCOL_VERSION: Final = 1
"""Raised when a change is not understood by older peers; both sides say what they speak and refuse what they do not."""

RECEIPT_PREDICATE_TYPE: Final = "https://nexapod.org/receipt/v1"
EXCHANGE_WAIT_SECONDS_MAX: Final = 25
PREDECESSORS_MAX: Final = 64
"""Earlier keys of one coordinator."""
UPLOAD_CHUNK_BYTES_MAX: Final = 8 * 1024 * 1024
RECEIPTS_MAX: Final = 256
"""Receipts in one request."""
RECEIPTS_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a request with receipts, as JSON."""
RECEIPT_ENVELOPE_BYTES_MAX: Final = 40 * 1024
"""Of a receipt's envelope as canonical JSON: a leaf of the public log, 65,535 bytes at most, holds it whole."""
RECEIPT_BLOB_BYTES_MAX: Final = 64 * 1024
"""Of a blob that comes along with its receipt; a larger one is uploaded before."""

Json = Any
ShortText = Annotated[str, StringConstraints(max_length=200)]
NodeName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
_PATH_PART = r"(?:[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.\.[^/\\\x00-\x1f]+)"
OutputPath = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=rf"^{_PATH_PART}(?:/{_PATH_PART})*$")]
"""A relative POSIX path without empty, ``.`` or ``..`` components, backslashes or control characters."""


PATTERNS_MAX: Final = 32
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._:/@+*-]+$")]
"""What names of images and job types are made of, and `*`."""


class Message(BaseModel):
    """Base of all messages: frozen, unknown fields refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


# --- what a machine is ------------------------------------------------------------------------------------------------


class Gpu(Message):
    """One GPU as NVML reports it."""

    index: int = Field(ge=0)
    uuid: ShortText
    name: ShortText
    memory_bytes: int = Field(ge=0)
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
    memory_bytes: int = Field(ge=1)
    disk_free_bytes: int = Field(ge=0)
    gpus: tuple[Gpu, ...] = Field(default=(), max_length=64)
    engine: EngineProfile
    benchmark_gflops: float = Field(gt=0, lt=1e9, description="double precision GFLOP/s of one core, measured by the host")
    software_version: ShortText


# --- joining ----------------------------------------------------------------------------------------------------------


class RegistrationRequest(Message):
    """`POST /api/v1/nodes`, signed (RFC 9421) with the key that it registers.

    `name` None: the one that was chosen with the join token; if none was, the profile's `hostname_hint`.
    """

    protocol_version: int
    join_token: ShortText
    name: NodeName | None = None
    public_key: str
    profile: NodeProfile


class RegistrationAnswer(Message):
    """`tier` is what the coordinator made of the profile; `queues` are the tiers the node may serve, its own first."""

    protocol_version: int
    node_id: UUID
    key_id: Digest
    name: str
    owner: str
    tier: Tier
    queues: tuple[Tier, ...]
    coordinator_key: str
    origin: str


class KeyRotationRequest(Message):
    """`POST /api/v1/nodes/self/key`, signed with the key that is being replaced. `proof`: see workers/protocol/key_rotation.py."""

    protocol_version: int
    public_key: str
    proof: dict[str, Json]


class KeyRotationAnswer(Message):
    """`key_id` is the node's key from now on. The same request again gives the same answer."""

    protocol_version: int
    node_id: UUID
    key_id: Digest


class PredecessorKey(Message):
    """A key that the coordinator had; `succession` is the envelope in which it names the next one (workers/protocol/succession.py)."""

    public_key: str
    succession: dict[str, Json]


class CoordinatorInfo(Message):
    """`GET /api/v1/coordinator`, public and unsigned: the host compares `key_id` with the fingerprint in its join token.

    `predecessors` are the keys that it had before, oldest first.
    """

    protocol_versions: tuple[int, ...]
    origin: str
    public_key: str
    key_id: Digest
    predecessors: tuple[PredecessorKey, ...] = Field(default=(), max_length=PREDECESSORS_MAX)


# --- exchange ---------------------------------------------------------------------------------------------------------


class FreeResources(Message):
    """What a host could start now. `slots` 0 asks for no work: the exchange is a heartbeat and a renewal only."""

    slots: int = Field(ge=0, le=256)
    cpus: float = Field(ge=0, le=4096)
    memory_bytes: int = Field(ge=0)
    disk_bytes: int = Field(ge=0)
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
    memory_bytes: int | None = Field(default=None, ge=0)


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


# --- order ------------------------------------------------------------------------------------------------------------


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
    size_bytes: int = Field(ge=0)
    url: str


class ExpectedOutput(Message):
    """One file that the container is expected to leave under /outputs."""

    path: OutputPath
    required: bool = True
    media_type: ShortText = "application/octet-stream"


class Limits(Message):
    """What one run may use; every one is enforced by the host."""

    wall_seconds: int = Field(ge=1, le=30 * 86400)
    memory_bytes: int = Field(ge=16 * 2**20)
    cpus: float = Field(gt=0, le=1024)
    pids: int = Field(ge=1, le=32768)
    disk_bytes: int = Field(ge=2**20)
    output_bytes: int = Field(ge=1)
    gpus: int = Field(default=0, ge=0, le=64)
    gpu_memory_bytes: int = Field(default=0, ge=0, description="what each granted GPU has at least")


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
    credit_rate_micro: int = Field(ge=0, description="what the job offers for 1 TFLOP/s-hour, in millionths of a credit")
    image: ImageReference
    command: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    inputs: tuple[OrderInput, ...] = ()
    outputs: tuple[ExpectedOutput, ...] = ()
    limits: Limits


# --- receipt ----------------------------------------------------------------------------------------------------------


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
    memory_peak_bytes: int | None = Field(default=None, ge=0)
    temperature_peak_celsius: float | None = None
    energy_joules: float | None = Field(default=None, ge=0, description="integral of power over time")


class Usage(Message):
    """What one run used: peaks and integrals. None: not measured, which is not nothing."""

    wall_seconds: float = Field(ge=0)
    cpu_seconds: float = Field(ge=0)
    memory_peak_bytes: int = Field(ge=0)
    memory_byte_seconds: float | None = Field(default=None, ge=0, description="integral of memory over time, from first to last sample")
    pids_peak: int | None = Field(default=None, ge=0)
    read_bytes: int | None = Field(default=None, ge=0)
    written_bytes: int | None = Field(default=None, ge=0)
    samples: int = Field(ge=0)
    gpu_seconds: float | None = Field(default=None, ge=0, description="granted GPUs times wall seconds")
    gpus: tuple[GpuUsage, ...] = Field(default=(), max_length=64)


class StoredObject(Message):
    """A blob: what it hashes to and how long it is."""

    digest: Digest
    size_bytes: int = Field(ge=0)


class LogReference(StoredObject):
    """The compute log: `head` is the hash of its last line (see workers/compute_log.py), `lines` their number."""

    head: Digest
    lines: int = Field(ge=1)


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
    exit_code: int | None = None
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
    size_bytes: int = Field(ge=0)


class Manifest(Message):
    """The list of an archive's files, sorted by path; the digest of its canonical JSON is the result digest."""

    manifest_version: Literal[1] = 1
    files: tuple[ManifestFile, ...]


class SubmittedReceipt(Message):
    """A receipt, and the bytes of the blobs that it names where they are few and were not uploaded, in base64."""

    envelope: dict[str, Json]
    log: str | None = None
    archive: str | None = None


class ReceiptSubmission(Message):
    """`POST /api/v1/receipts`. Idempotent: the same receipt again gives the same answer."""

    protocol_version: int
    receipts: tuple[SubmittedReceipt, ...] = Field(min_length=1, max_length=RECEIPTS_MAX)


class ReceiptAnswer(Message):
    """`recorded`: it counts; `late`: the job was concluded before, kept but unpaid; either way the host is done with the lease."""

    replica_id: UUID
    status: Literal["recorded", "late"]
    receipt_digest: Digest
    received_at: datetime


class Problem(BaseModel):
    """RFC 9457 problem details with a stable `code`; extension members are allowed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str = ""


class ReceiptResult(Message):
    """What became of one receipt: an answer, or a problem. Exactly one is there."""

    answer: ReceiptAnswer | None = None
    problem: Problem | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.answer is None) == (self.problem is None):
            raise ValueError("a result is an answer or a problem")
        return self


class ReceiptsAnswer(Message):
    """A result for each receipt, in their order: what is wrong with one holds no other up."""

    results: tuple[ReceiptResult, ...] = Field(min_length=1, max_length=RECEIPTS_MAX)
