"""A real result bundle in pieces: every part is made by the code that makes it in operation, so a test can change any one of them.

Two hosts ran one job; the ledger's log has a grant, a reservation, the two payments and a refund. No Django, no database.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from client.verification import bundle_verify
from workers.orders import OpenedOrder
from workers.protocol.archives import ArchiveInfo, archive_write
from workers.protocol.bundles import INDEX_NAME, SEAL_NAME, seal_sign
from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, envelope_sign
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import inclusion_proof, leaf_hash, tree_root
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ImageReference, Limits, Order
from workers.protocol.messages.receipt import Usage
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.strict_base64 import base64_decode, base64_encode
from workers.receipts import RunOutcome, receipt_sign

ORIGIN: Final = "https://portal.example"
LOG_ORIGIN: Final = "portal.example/ledger"
COORDINATOR: Final = PrivateKey.from_raw(bytes(range(32)))
NODES: Final = (PrivateKey.from_raw(bytes(range(32, 64))), PrivateKey.from_raw(bytes(range(64, 96))))
JOB_ID: Final = UUID("0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02")
NOW: Final = datetime(2027, 1, 15, 8, tzinfo=UTC)
IMAGE: Final = ImageReference(name="example/sum:1.0", image_id=digest_of(b"image"))
FILES: Final = {"energy.csv": b"step,energy\n1,-3.5\n", "summary.json": b'{"energy": -3.5}\n'}
PAID_MICRO: Final = 250_000

STRANGER = PrivateKey.from_raw(bytes(range(100, 132)))
PINNED = COORDINATOR.public.key_id
SIGNED_MEMBERS = [f"replica-{number}/{name}" for number in (1, 2) for name in ("order.json", "receipt.json", "log.jsonl")]
ALL_MEMBERS = [*SIGNED_MEMBERS, "replica-1/archive.tar", SEAL_NAME]

Members = dict[str, bytes]


@dataclass(frozen=True)
class Run:
    """What one host made of its order."""

    key: PrivateKey
    order: OpenedOrder
    log: bytes
    archive: bytes
    receipt: bytes

    @property
    def receipt_digest(self) -> str:
        return digest_of(payload_of(self.receipt))


def payload_of(envelope: bytes) -> bytes:
    return base64_decode(json.loads(envelope)["payload"])


def order_make(number: int, key: PrivateKey, **changed: Any) -> OpenedOrder:
    """The order of replica `number` for the node with `key`, signed by the coordinator."""
    values: dict[str, Any] = {
        "replica_id": UUID(int=0x1000 + number),
        "lease_id": UUID(int=0x2000 + number),
        "node_key_id": key.public.key_id,
        "origin": ORIGIN,
        "issued_at": NOW,
        "deadline_at": NOW + timedelta(hours=1),
        "tier": Tier.CPU,
        "job_type": "example.sum",
        "credit_rate_micro": 1_000_000,
        "image": IMAGE,
        "limits": Limits(wall_seconds=60, memory_bytes=2**29, cpus=1, pids=64, disk_bytes=2**28, output_bytes=2**20),
    }
    message = Order(**{**values, **changed})
    payload = canonical_json(message.model_dump(mode="json"))
    return OpenedOrder(message, digest_of(payload), envelope_sign(payload, PAYLOAD_TYPE_ORDER, COORDINATOR))


def archive_make(folder: Path, files: Mapping[str, bytes]) -> tuple[bytes, ArchiveInfo]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    out = io.BytesIO()
    info = archive_write(folder, out)
    return out.getvalue(), info


def run_make(folder: Path, number: int, key: PrivateKey, *, files: Mapping[str, bytes] = FILES, **order: Any) -> Run:
    """Runs replica `number`: order, log, archive, receipt."""
    opened = order_make(number, key, **order)
    out = io.BytesIO()
    ticks = iter(range(1000))
    writer = LogWriter(out, opened.digest, clock=lambda: NOW + timedelta(seconds=next(ticks)))
    writer.start({"image": IMAGE.name})
    writer.output("stdout", b"adding\n")
    writer.sample({"cpu_seconds": 0.5})
    reference = writer.end({"outcome": "completed", "exit_code": 0})
    outputs = folder / f"outputs-{number}-{key.public.key_id[7:15]}"
    outputs.mkdir()
    archive, info = archive_make(outputs, files)
    outcome = RunOutcome(
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=3),
        usage=Usage(wall_seconds=3, cpu_seconds=2.5, memory_peak_bytes=10**6, samples=1),
        exit_code=0,
        image_id=IMAGE.image_id,
        archive=info,
    )
    receipt = receipt_sign(opened=opened, outcome=outcome, log=reference, key=key, benchmark_gflops=10.0, engine="docker 28.0")
    return Run(key, opened, out.getvalue(), archive, receipt)


def payment_leaf(run: Run, **evidence: str) -> bytes:
    """The leaf of the entry that paid `run`, as ledger.checkpoints writes it."""
    replica = str(run.order.order.replica_id)
    stated = {"job": str(JOB_ID), "replica": replica, "receipt": run.receipt_digest, "node_key": run.key.public.key_id, "formula": {}}
    postings = [
        {"account": str(UUID(int=1)), "amount_micro": str(-PAID_MICRO)},
        {"account": str(UUID(int=2)), "amount_micro": str(PAID_MICRO)},
    ]
    return canonical_json(
        {
            "entry": "7",
            "kind": "payment",
            "key": f"payment:{replica}",
            "at": NOW.isoformat(),
            "evidence": {**stated, **evidence},
            "postings": postings,
        }
    )


def index_make(runs: Sequence[Run], *, leaves: Sequence[bytes] | None = None, signer: PrivateKey = COORDINATOR) -> dict[str, Any]:
    """`bundle.json` of these runs, the first canonical. `leaves` are the entries of the ledger's log: the payments are its last but one."""
    payments = [payment_leaf(run) for run in runs] if leaves is None else list(leaves)
    entries = [b'{"kind":"grant"}', b'{"kind":"reservation"}', *payments, b'{"kind":"refund"}']
    hashes = [leaf_hash(entry) for entry in entries]
    text = Checkpoint(LOG_ORIGIN, len(entries), tree_root(hashes)).to_text()
    return {
        "bundle_version": 1,
        "job": {
            "id": str(JOB_ID),
            "label": "sum-1",
            "type": "example.sum",
            "descriptor": {"job_id": "sum-1"},
            "image": IMAGE.model_dump(mode="json"),
            "quorum": len(runs),
            "verdict": {"agreeing": len(runs), "reported": len(runs), "quorum": len(runs), "worst": None},
            "concluded_at": NOW.isoformat(),
        },
        "origin": ORIGIN,
        "coordinator_public_key": COORDINATOR.public.to_base64(),
        "coordinator_predecessors": [],
        "replicas": [
            {
                "folder": f"replica-{number}",
                "node_public_key": run.key.public.to_base64(),
                "node_name": f"host-{number}",
                "canonical": number == 1,
                "payment": {
                    "index": number + 1,
                    "leaf": base64_encode(payments[number - 1]),
                    "proof": [base64_encode(one) for one in inclusion_proof(hashes, number + 1, len(entries))],
                },
            }
            for number, run in enumerate(runs, start=1)
        ],
        "ledger": {"origin": LOG_ORIGIN, "checkpoint": note_sign(text, LOG_ORIGIN, signer).decode()},
    }


def members_make(runs: Sequence[Run], index: Mapping[str, Any] | None = None) -> Members:
    """All members but the seal."""
    members: Members = {INDEX_NAME: canonical_json(dict(index or index_make(runs)))}
    for number, run in enumerate(runs, start=1):
        members[f"replica-{number}/order.json"] = run.order.envelope
        members[f"replica-{number}/receipt.json"] = run.receipt
        members[f"replica-{number}/log.jsonl"] = run.log
        if number == 1:
            members["replica-1/archive.tar"] = run.archive
    return members


def sealed(members: Mapping[str, bytes], key: PrivateKey = COORDINATOR) -> Members:
    """The members with a seal over them: what a coordinator would sign that lies, or errs."""
    digests = {name: digest_of(data) for name, data in members.items() if name != SEAL_NAME}
    return {**members, SEAL_NAME: seal_sign(digests=digests, job_id=JOB_ID, key=key)}


def index_changed(members: Members, change: Callable[[dict[str, Any]], None]) -> Members:
    """The members with another index, sealed again."""
    index = json.loads(members[INDEX_NAME])
    change(index)
    return sealed({**members, INDEX_NAME: canonical_json(index)})


def zip_write(path: Path, members: Mapping[str, bytes]) -> Path:
    """The ZIP with these members, in this order, its checksums right."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in members.items():
            bundle.writestr(zipfile.ZipInfo(name), data)
    return path


def refusal(path: Path, members: Members) -> VerificationError:
    """The error that the bundle of these members is refused with."""
    with pytest.raises(VerificationError) as caught:
        bundle_verify(zip_write(path / "b.zip", members), coordinator_key_id=PINNED)
    return caught.value


def flipped(data: bytes, position: int, mask: int) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
