"""The second half of the golden vectors' story: what the ledger holds of the job, its proofs, the result bundle's index, the descriptor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.workers.protocol import vector_story as story
from workers.protocol.bundles import BundledJob, BundledLedger, BundledReplica, BundleIndex, PaymentProof, seal_sign
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.merkle import consistency_proof, inclusion_proof, leaf_hash, tree_root
from workers.protocol.pay import payment_micro, reservation_micro
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.strict_base64 import base64_decode, base64_encode

LOG_ORIGIN: Final = "portal.example/ledger"
TREASURY: Final = UUID("11111111-0000-4000-8000-000000000001")
ESCROW: Final = UUID("22222222-0000-4000-8000-000000000002")
RESEARCHER: Final = UUID("33333333-0000-4000-8000-000000000003")
CONTRIBUTOR: Final = UUID("44444444-0000-4000-8000-000000000004")

ESTIMATED_FLOPS: Final = 3.6e12
RATE_MICRO: Final = 1_250_000
PAYMENT_INDEX: Final = 2

FORMULA_CASES: Final = (
    (3.6e12, 1.0, 1_250_000, 2),
    (1.8e12, 1.7320508075688772, 1_000_000, 4),
    (3.6e15, 9.5, 1_000_000, 3),
    (3.6e15, 0.01, 1_000_000, 3),
    (1.0, 1.0, 1_000, 2),
    (1e22, 4.0, 1_000_000_000, 32),
)
"""(estimated FLOPs, calibration ratio, rate in millionths, replicas at most)."""

DESCRIPTOR: Final = {
    "schema_version": "1.0",
    "job_id": "sum-of-three",
    "type": "example.sum",
    "docker_image": "registry.example/sum:1.0",
    "estimated_flops": 3.6e12,
    "tier": 0,
    "input_files": ["numbers.txt"],
    "inputs": [{"path": "numbers.txt", "digest": digest_of(story.INPUT), "size_bytes": len(story.INPUT)}],
    "command": ["python3", "/opt/sum.py", "numbers.txt"],
    "environment": {"OMP_NUM_THREADS": "1"},
    "outputs": [
        {"path": "sum.json", "media_type": "application/json"},
        {"path": "tables/parts.csv", "required": False, "media_type": "text/csv"},
    ],
    "limits": {"wall_seconds": 300, "memory_mb": 512, "cpus": 1, "pids": 64, "disk_mb": 256, "output_mb": 16},
    "tolerance": 0.001,
    "credit_rate": 1.25,
    "verification": {"method": "numeric", "copies": 1, "quorum": 1},
}


def entry_documents(receipt_digest: str) -> list[dict[str, Any]]:
    """What the leaves say: grant, reservation, payment, refund, and the grant of somebody else."""
    paid = payment_micro(estimated_flops=ESTIMATED_FLOPS, calibration_ratio=1.0, rate_micro=RATE_MICRO)
    reserved = reservation_micro(estimated_flops=ESTIMATED_FLOPS, rate_micro=RATE_MICRO, replicas_max=2)
    job = str(story.JOB_ID)
    formula = {
        "version": "1",
        "estimated_flops": repr(ESTIMATED_FLOPS),
        "calibration_ratio": repr(1.0),
        "rate_micro": str(RATE_MICRO),
    }
    payment = {
        "job": job,
        "replica": str(story.REPLICA_ID),
        "receipt": receipt_digest,
        "node_key": story.NODE.public.key_id,
        "formula": formula,
    }
    start = {"reason": "start grant"}
    return [
        _entry(1, f"grant:start:{RESEARCHER}", 0.0, start, moved=(TREASURY, RESEARCHER, 10_000_000)),
        _entry(2, f"reservation:{job}", 1.5, {"job": job}, moved=(RESEARCHER, ESCROW, reserved)),
        _entry(3, f"payment:{story.REPLICA_ID}", 8.125, payment, moved=(ESCROW, CONTRIBUTOR, paid)),
        _entry(4, f"refund:{job}", 8.25, {"job": job}, moved=(ESCROW, RESEARCHER, reserved - paid)),
        _entry(5, f"grant:start:{CONTRIBUTOR}", 9.0, start, moved=(TREASURY, CONTRIBUTOR, 10_000_000)),
    ]


def leaves(receipt_digest: str) -> list[bytes]:
    """The leaves of the log, as `ledger.checkpoints.leaf_data` writes them."""
    return [canonical_json(document) for document in entry_documents(receipt_digest)]


def checkpoint(entries: list[bytes]) -> Checkpoint:
    return Checkpoint(LOG_ORIGIN, len(entries), tree_root([leaf_hash(entry) for entry in entries]))


def checkpoint_note(entries: list[bytes]) -> str:
    """The signed note over `entries`."""
    return note_sign(checkpoint(entries).to_text(), LOG_ORIGIN, story.COORDINATOR).decode()


def merkle_vector(size: int) -> dict[str, Any]:
    """Every root and proof of the trees of up to `size` leaves that hold `leaf 0`, `leaf 1` and so on."""
    entries = [f"leaf {index}".encode() for index in range(size)]
    hashes = [leaf_hash(entry) for entry in entries]
    return {
        "leaves": [entry.decode() for entry in entries],
        "leaf_hashes": [one.hex() for one in hashes],
        "roots": [tree_root(hashes[:count]).hex() for count in range(size + 1)],
        "inclusion": [
            {"index": index, "size": count, "proof": [one.hex() for one in inclusion_proof(hashes, index, count)]}
            for count in range(1, size + 1)
            for index in range(count)
        ],
        "consistency": [
            {"old": old, "new": new, "proof": [one.hex() for one in consistency_proof(hashes, old, new)]}
            for new in range(1, size + 1)
            for old in range(new + 1)
        ],
    }


def payment_proof(entries: list[bytes]) -> dict[str, Any]:
    """As a bundle carries it."""
    hashes = [leaf_hash(entry) for entry in entries]
    return {
        "index": PAYMENT_INDEX,
        "leaf": base64_encode(entries[PAYMENT_INDEX]),
        "proof": [base64_encode(one) for one in inclusion_proof(hashes, PAYMENT_INDEX, len(entries))],
    }


def entry_bundle(entries: list[bytes]) -> bytes:
    """The tlog-tiles entry bundle that holds `entries`."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def hash_tile(entries: list[bytes]) -> bytes:
    """The tile of level 0 over `entries`."""
    return b"".join(leaf_hash(entry) for entry in entries)


def formula_cases() -> list[dict[str, Any]]:
    return [
        {
            "estimated_flops": repr(flops),
            "calibration_ratio": repr(ratio),
            "rate_micro": str(rate),
            "replicas_max": replicas,
            "reservation_micro": str(reservation_micro(estimated_flops=flops, rate_micro=rate, replicas_max=replicas)),
            "payment_micro": str(payment_micro(estimated_flops=flops, calibration_ratio=ratio, rate_micro=rate)),
        }
        for flops, ratio, rate, replicas in FORMULA_CASES
    ]


def bundle(entries: list[bytes]) -> tuple[bytes, bytes]:
    """`bundle.json` and `seal.json` of the story's job, as `jobs.bundles` makes them; the other members are other vectors."""
    index = BundleIndex(
        bundle_version=1,
        job=BundledJob(
            id=story.JOB_ID,
            label=str(DESCRIPTOR["job_id"]),
            type=str(DESCRIPTOR["type"]),
            descriptor=DESCRIPTOR,
            image=story.order().order.image,
            quorum=1,
            verdict={"agreeing": 1, "reported": 1, "quorum": 1, "worst": None},
            concluded_at=story.NOW + timedelta(seconds=8.125),
        ),
        origin=story.ORIGIN,
        coordinator_public_key=story.COORDINATOR.public.to_base64(),
        coordinator_predecessors=(),
        replicas=(
            BundledReplica(
                folder="replica-1",
                node_public_key=story.NODE.public.to_base64(),
                node_name="bench-1",
                canonical=True,
                payment=PaymentProof.model_validate(payment_proof(entries)),
            ),
        ),
        ledger=BundledLedger(origin=LOG_ORIGIN, checkpoint=checkpoint_note(entries)),
    )
    data = canonical_json(index.model_dump(mode="json"))
    members = {
        "bundle.json": data,
        "replica-1/order.json": story.order().envelope,
        "replica-1/receipt.json": story.receipt_completed(),
        "replica-1/log.jsonl": story.compute_log()[0],
        "replica-1/archive.tar": story.archive(story.OUTPUTS)[0],
    }
    digests = {name: digest_of(content) for name, content in members.items()}
    return data, seal_sign(digests=digests, job_id=story.JOB_ID, key=story.COORDINATOR)


def receipt_digest_of(envelope: bytes) -> str:
    """The digest of a receipt: of the payload of its envelope."""
    return digest_of(base64_decode(json_parse(envelope, limit_bytes=2**20)["payload"]))


def _entry(number: int, key: str, seconds: float, evidence: dict[str, Any], *, moved: tuple[UUID, UUID, int]) -> dict[str, Any]:
    source, target, amount = moved
    postings = sorted([(source, -amount), (target, amount)], key=lambda posting: str(posting[0]))
    return {
        "entry": str(number),
        "kind": key.partition(":")[0],
        "key": key,
        "at": _at(seconds),
        "evidence": evidence,
        "postings": [{"account": str(account), "amount_micro": str(micro)} for account, micro in postings],
    }


def _at(seconds: float) -> str:
    moment: datetime = story.NOW + timedelta(seconds=seconds)
    return moment.isoformat()
