"""What the golden vectors tell: one small job from a host's registration to the payment in the ledger, with fixed keys, times and ids.

Everything is made by the code that makes it in operation, from the values below; nothing here is random and nothing reads a clock.
"""

from __future__ import annotations

import io
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from workers.orders import OpenedOrder
from workers.protocol.archives import ArchiveInfo, archive_write
from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, envelope_sign
from workers.protocol.join_tokens import JoinTokenContent
from workers.protocol.key_rotation import KeyRotation, rotation_prove
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION, Problem
from workers.protocol.messages.delivery import ReceiptAnswer, ReceiptResult, ReceiptsAnswer
from workers.protocol.messages.exchange import (
    Command,
    CommandKind,
    ExchangeAnswer,
    ExchangeRequest,
    FreeResources,
    LeaseReport,
    NoWork,
    Renewal,
    Stage,
    Wishes,
)
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationAnswer,
    KeyRotationRequest,
    PredecessorKey,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.messages.machine import EngineProfile, NodeProfile, Tier
from workers.protocol.messages.order import ExpectedOutput, ImageReference, Limits, Order, OrderInput
from workers.protocol.messages.receipt import Failure, FailureCode, LogReference, Usage
from workers.protocol.succession import Succession, succession_sign
from workers.receipts import RunOutcome, receipt_sign

ORIGIN: Final = "https://portal.example"
COORDINATOR: Final = PrivateKey.from_raw(bytes(range(32)))
NODE: Final = PrivateKey.from_raw(bytes(range(32, 64)))
NEXT_COORDINATOR: Final = PrivateKey.from_raw(bytes(range(64, 96)))
NEXT_NODE: Final = PrivateKey.from_raw(bytes(range(96, 128)))
"""Keys that everybody knows: never register them."""

NOW: Final = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)
SECONDS: Final = 1_800_000_000
"""NOW, as signatures have it."""

NODE_ID: Final = UUID("6f1c0a52-5f0e-4a53-9a41-0d6c2b7f1e01")
JOB_ID: Final = UUID("0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02")
REPLICA_ID: Final = UUID("c4f2d7a8-91b6-4c1e-a6d3-2e8b9f0a4d03")
LEASE_ID: Final = UUID("5d3e8b60-7a2c-4f19-b0c5-9e1f6a7d8c04")
OTHER_LEASE_ID: Final = UUID("e1a7c9d2-4b3f-4e86-8d50-3c2b1a0f9e05")
REQUEST_ID: Final = UUID("9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c06")
SESSION_ID: Final = UUID("9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c07")
JOIN_SECRET: Final = "am9pbi1zZWNyZXQtb2YtdGhlLWdvbGRlbi12ZWN0b3I"
INPUT: Final = b"1\n2\n3\n"
OUTPUTS: Final = {"sum.json": b'{"sum": 6}\n', "tables/parts.csv": b"part,value\n1,1\n2,2\n3,3\n"}
AWKWARD_OUTPUTS: Final = {"empty": b"", "a/" + "long" * 26 + ".txt": b"over 100 bytes\n", "größe.csv": b"x\n"}
"""What ustar can't say alone: a path over 100 bytes and one that is not ASCII need pax headers."""

PROFILE: Final = NodeProfile(
    hostname_hint="bench-1",
    os="Linux 6.1",
    architecture="x86_64",
    cpu_model="Example CPU",
    cores=8,
    memory_bytes=16 * 2**30,
    disk_free_bytes=200 * 10**9,
    engine=EngineProfile(name="docker", version="27.0.3", cgroup_version="2", rootless=False, runtime="runc"),
    benchmark_gflops=12.5,
    software_version="0.1.0",
)
FREE: Final = FreeResources(slots=1, cpus=8, memory_bytes=12 * 2**30, disk_bytes=150 * 10**9)
WISHES: Final = Wishes(images=("registry.example/*",), credit_rate_min=0.5)
NOTHING_FREE: Final = FreeResources(slots=0, cpus=0, memory_bytes=0, disk_bytes=0)


def join_token_content() -> JoinTokenContent:
    return JoinTokenContent(portal=ORIGIN, coordinator=COORDINATOR.public.key_id, secret=JOIN_SECRET)


def coordinator_info() -> CoordinatorInfo:
    key = COORDINATOR.public
    return CoordinatorInfo(protocol_versions=(PROTOCOL_VERSION,), origin=ORIGIN, public_key=key.to_base64(), key_id=key.key_id)


def succession() -> bytes:
    """The coordinator's key names the next one."""
    statement = Succession(origin=ORIGIN, successor=NEXT_COORDINATOR.public.to_base64(), issued_at=NOW)
    return succession_sign(statement, key=COORDINATOR)


def coordinator_info_succeeded() -> CoordinatorInfo:
    """As the portal tells it afterwards."""
    key = NEXT_COORDINATOR.public
    predecessor = PredecessorKey(public_key=COORDINATOR.public.to_base64(), succession=json.loads(succession()))
    return coordinator_info().model_copy(
        update={"public_key": key.to_base64(), "key_id": key.key_id, "predecessors": (predecessor,)},
    )


def key_rotation() -> tuple[KeyRotationRequest, KeyRotationAnswer]:
    """The node replaces its key."""
    rotation = KeyRotation(origin=ORIGIN, node_id=NODE_ID, old_key_id=NODE.public.key_id)
    request = KeyRotationRequest(
        protocol_version=PROTOCOL_VERSION,
        public_key=NEXT_NODE.public.to_base64(),
        proof=rotation_prove(rotation, new_key=NEXT_NODE),
    )
    return request, KeyRotationAnswer(protocol_version=PROTOCOL_VERSION, node_id=NODE_ID, key_id=NEXT_NODE.public.key_id)


def registration() -> tuple[RegistrationRequest, RegistrationAnswer]:
    request = RegistrationRequest(
        protocol_version=PROTOCOL_VERSION,
        join_token=JOIN_SECRET,
        name="bench-1",
        public_key=NODE.public.to_base64(),
        profile=PROFILE,
    )
    answer = RegistrationAnswer(
        protocol_version=PROTOCOL_VERSION,
        node_id=NODE_ID,
        key_id=NODE.public.key_id,
        name="bench-1",
        owner="ada",
        tier=Tier.CPU,
        queues=(Tier.CPU,),
        coordinator_key=COORDINATOR.public.to_base64(),
        origin=ORIGIN,
    )
    return request, answer


def order() -> OpenedOrder:
    """The order and its envelope, as `jobs.orders.order_sign` makes it."""
    image = digest_of(b"the image of the golden vectors")
    message = Order(
        replica_id=REPLICA_ID,
        lease_id=LEASE_ID,
        node_key_id=NODE.public.key_id,
        origin=ORIGIN,
        issued_at=NOW,
        deadline_at=NOW + timedelta(seconds=900),
        tier=Tier.CPU,
        job_type="example.sum",
        credit_rate_micro=1_250_000,
        image=ImageReference(name="registry.example/sum:1.0", pull=f"registry.example/sum@{image}"),
        command=("python3", "/opt/sum.py", "numbers.txt"),
        environment={"OMP_NUM_THREADS": "1"},
        inputs=(
            OrderInput(
                path="numbers.txt",
                digest=digest_of(INPUT),
                size_bytes=len(INPUT),
                url=f"{ORIGIN}/api/v1/blobs/{digest_of(INPUT)}",
            ),
        ),
        outputs=(
            ExpectedOutput(path="sum.json", media_type="application/json"),
            ExpectedOutput(path="tables/parts.csv", required=False, media_type="text/csv"),
        ),
        limits=Limits(wall_seconds=300, memory_bytes=512 * 10**6, cpus=1, pids=64, disk_bytes=256 * 10**6, output_bytes=16 * 10**6),
    )
    payload = canonical_json(message.model_dump(mode="json"))
    return OpenedOrder(message, digest_of(payload), envelope_sign(payload, PAYLOAD_TYPE_ORDER, COORDINATOR))


def exchanges(checkpoint: str) -> dict[str, tuple[ExchangeRequest, ExchangeAnswer]]:
    """Three exchanges: work is given; there is none; a run is to stop."""

    def request(free: FreeResources, *, wait: float, number: int, leases: tuple[LeaseReport, ...] = ()) -> ExchangeRequest:
        return ExchangeRequest(
            protocol_version=PROTOCOL_VERSION,
            request_id=UUID(int=REQUEST_ID.int + number),
            wait_seconds=wait,
            queues=(Tier.CPU,),
            free=free,
            leases=leases,
            wishes=WISHES,
            session_id=SESSION_ID,
            software_version="0.1.0",
        )

    def answer(number: int, **more: Any) -> ExchangeAnswer:
        return ExchangeAnswer(
            protocol_version=PROTOCOL_VERSION,
            request_id=UUID(int=REQUEST_ID.int + number),
            server_time=NOW + timedelta(seconds=number * 20),
            checkpoint=checkpoint,
            **more,
        )

    running = LeaseReport(
        lease_id=OTHER_LEASE_ID,
        stage=Stage.RUNNING,
        progress=0.4,
        message="annealing",
        elapsed_seconds=61.5,
        cpu_percent=98.5,
        memory_bytes=210_000_000,
    )
    renewal = Renewal(lease_id=OTHER_LEASE_ID, expires_at=NOW + timedelta(seconds=60))
    none = NoWork(code="no_jobs_queued", message="No job is queued for cpu.")
    stop = Command(kind=CommandKind.CANCEL, lease_id=OTHER_LEASE_ID, reason="The job was concluded.")
    envelope = json.loads(order().envelope)
    return {
        "work": (request(FREE, wait=5, number=0, leases=(running,)), answer(0, orders=(envelope,), renewed=(renewal,))),
        "no_work": (request(FREE, wait=25, number=1), answer(1, no_work=none)),
        "cancel": (request(NOTHING_FREE, wait=0, number=2, leases=(running,)), answer(2, commands=(stop,))),
    }


def archive(files: dict[str, bytes]) -> tuple[bytes, ArchiveInfo]:
    """The archive of these files as bytes, and what the writer says of it."""
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        out = io.BytesIO()
        info = archive_write(Path(folder), out)
    return out.getvalue(), info


def compute_log() -> tuple[bytes, LogReference]:
    """The log of the completed run."""
    opened = order()
    ticks = iter(range(1000))
    out = io.BytesIO()
    writer = LogWriter(out, opened.digest, clock=lambda: NOW + timedelta(milliseconds=250 * next(ticks)))
    message = opened.order
    writer.start({"image": message.image.model_dump(mode="json"), "limits": message.limits.model_dump(mode="json")})
    writer.event("input", {"path": "numbers.txt", "digest": digest_of(INPUT), "size_bytes": len(INPUT)})
    writer.event("image", {"image_id": digest_of(b"image id")})
    writer.output("stdout", b'{"nexa_progress": 0.5, "stage": "adding"}\n')
    writer.sample({"elapsed_seconds": 1.0, "cpu_seconds": 0.9, "cpu_percent": 90.0, "memory_bytes": 20_000_000, "pids": 1})
    writer.output("stderr", "fertig: größer als 5\n".encode())
    writer.output("stderr", b"\xff is no UTF-8\n")
    reference = writer.end({"outcome": "completed", "exit_code": 0, "failure": None})
    return out.getvalue(), reference


def receipt_completed() -> bytes:
    """The envelope of the receipt for the completed run."""
    outcome = RunOutcome(
        started_at=NOW + timedelta(seconds=2),
        finished_at=NOW + timedelta(seconds=4.5),
        usage=Usage(
            wall_seconds=2.5,
            cpu_seconds=2.25,
            memory_peak_bytes=20_000_000,
            memory_byte_seconds=45_000_000,
            pids_peak=1,
            read_bytes=0,
            written_bytes=4096,
            samples=1,
        ),
        exit_code=0,
        image_id=digest_of(b"image id"),
        archive=archive(OUTPUTS)[1],
    )
    return _receipt(outcome)


def receipt_failed() -> bytes:
    """The envelope of a receipt for the same order, had the run failed."""
    outcome = RunOutcome(
        started_at=NOW + timedelta(seconds=2),
        finished_at=NOW + timedelta(seconds=4.5),
        usage=Usage(wall_seconds=2.5, cpu_seconds=2.25, memory_peak_bytes=20_000_000, samples=1),
        exit_code=3,
        image_id=digest_of(b"image id"),
        failure=Failure(code=FailureCode.EXIT_NONZERO, message="The container ended with exit code 3."),
    )
    return _receipt(outcome)


def receipts_answer(receipt_digest: str) -> ReceiptsAnswer:
    """The answer to a batch of two: the receipt, and one whose archive was forgotten."""
    answer = ReceiptAnswer(replica_id=REPLICA_ID, status="recorded", receipt_digest=receipt_digest, received_at=NOW + timedelta(seconds=6))
    missing = Problem.model_validate(
        {
            "title": "Bytes that the receipt names are missing",
            "status": 409,
            "code": "receipt_blob_missing",
            "detail": "The archive neither came along nor was uploaded for this lease. Upload it, then send the receipt again.",
            "digest": digest_of(b"another archive"),
        }
    )
    return ReceiptsAnswer(results=(ReceiptResult(answer=answer), ReceiptResult(problem=missing)))


def _receipt(outcome: RunOutcome) -> bytes:
    return receipt_sign(opened=order(), outcome=outcome, log=compute_log()[1], key=NODE, benchmark_gflops=12.5, engine="docker 27.0.3")
