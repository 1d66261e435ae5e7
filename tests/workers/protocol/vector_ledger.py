"""The second half of the golden vectors' story: what the ledger holds of the job, its proofs, the result bundle's index, the descriptor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.workers.protocol import vector_story as story
from workers.protocol.bundles import BundledJob, BundledLedger, BundledReplica, BundleIndex, PaymentProof, seal_sign
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.epochs import ContinuedLog, Epoch, epoch_sign, log_origin_of
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY, LEAF_BYTES_MAX, spot_chosen
from workers.protocol.merkle import consistency_proof, inclusion_proof, leaf_hash, tree_root
from workers.protocol.pay import payment_micro, reservation_micro
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.strict_base64 import base64_decode, base64_encode
from workers.protocol.tlog_tiles import place_text

LOG_ORIGIN: Final = "portal.example/ledger"
TREASURY: Final = ACCOUNT_TREASURY
ESCROW: Final = ACCOUNT_ESCROW
RESEARCHER: Final = UUID("33333333-0000-4000-8000-000000000003")
CONTRIBUTOR: Final = UUID("44444444-0000-4000-8000-000000000004")

ESTIMATED_FLOPS: Final = 3.6e12
RATE_MICRO: Final = 1_250_000
PAYMENT_INDEX: Final = 5
SPOT_KEY: Final = UUID("55555555-0000-4000-8000-000000000005")
SPOT_SECRET: Final = bytes(range(128, 160))
SPOT_SHARES: Final = (0.0, 0.1, 0.25, 0.5, 0.9, 1.0)
TILE_INDEXES: Final = (0, 67, 999, 1_000, 70_000, 1_234_067, 10**9)
PUBLISHED_SIZE: Final = 7
"""How many leaves the checkpoint covered that was published before the restore of the story's second epoch, which has lost two of them."""

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


def leaf_documents(receipt: bytes) -> list[dict[str, Any]]:
    """What the leaves say. `receipt` is the host's, signed."""
    receipt_digest = receipt_digest_of(receipt)
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
    node_key = {
        "kind": "node_key",
        "key": f"node_key:{story.NODE.public.key_id}",
        "at": _at(-2.0),
        "node": str(story.NODE_ID),
        "public_key": story.NODE.public.to_base64(),
        "account": str(CONTRIBUTOR),
    }
    spot_commitment = {
        "kind": "spot_commitment",
        "key": f"spot_commitment:{SPOT_KEY}",
        "at": _at(-1.0),
        "spot_key": str(SPOT_KEY),
        "commitment": digest_of(SPOT_SECRET),
    }
    concluded = {
        "kind": "receipt",
        "key": f"receipt:{story.REPLICA_ID}",
        "at": _at(8.125),
        "job": job,
        "replica": str(story.REPLICA_ID),
        "receipt": receipt_digest,
        "accepted": True,
        "quorum": 1,
        "spot": None,
        "envelope": json_parse(receipt, limit_bytes=LEAF_BYTES_MAX),
    }
    spot_key = {
        "kind": "spot_key",
        "key": f"spot_key:{SPOT_KEY}",
        "at": _at(86400.0),
        "spot_key": str(SPOT_KEY),
        "secret": SPOT_SECRET.hex(),
    }
    return [
        node_key,
        spot_commitment,
        _entry(3, f"grant:start:{RESEARCHER}", 0.0, start, moved=(TREASURY, RESEARCHER, 10_000_000)),
        _entry(4, f"reservation:{job}", 1.5, {"job": job}, moved=(RESEARCHER, ESCROW, reserved)),
        concluded,
        _entry(6, f"payment:{story.REPLICA_ID}", 8.125, payment, moved=(ESCROW, CONTRIBUTOR, paid)),
        _entry(7, f"refund:{job}", 8.25, {"job": job}, moved=(ESCROW, RESEARCHER, reserved - paid)),
        _entry(8, f"grant:start:{CONTRIBUTOR}", 9.0, start, moved=(TREASURY, CONTRIBUTOR, 10_000_000)),
        spot_key,
    ]


def leaves(receipt: bytes) -> list[bytes]:
    """The leaves of the log, as the coordinator writes them."""
    return [canonical_json(document) for document in leaf_documents(receipt)]


def epoch(entries: list[bytes]) -> bytes:
    """The statement that begins a second epoch, after a restore that lost the last two of PUBLISHED_SIZE leaves."""
    kept = entries[: PUBLISHED_SIZE - 2]
    statement = Epoch(
        number=2,
        origin=log_origin_of("portal.example", 2),
        continues=ContinuedLog(origin=LOG_ORIGIN, size=len(kept), root=base64_encode(checkpoint(kept).root)),
        published=checkpoint_note(entries[:PUBLISHED_SIZE]),
        reason="Disk failure; restored from the backup of 02:00 UTC.",
        began_at=story.NOW + timedelta(days=2),
    )
    return epoch_sign(statement, key=story.COORDINATOR)


def tile_paths() -> list[dict[str, Any]]:
    """Indexes of tiles as tlog-tiles writes them."""
    return [{"index": index, "path": f"tile/0/{place_text(index)}"} for index in TILE_INDEXES]


def spot_choices() -> list[dict[str, Any]]:
    """What the story's key chooses of the story's job, by share."""
    return [{"share": repr(share), "chosen": spot_chosen(secret=SPOT_SECRET, job_id=story.JOB_ID, share=share)} for share in SPOT_SHARES]


def checkpoint(entries: list[bytes]) -> Checkpoint:
    return Checkpoint(LOG_ORIGIN, len(entries), tree_root([leaf_hash(entry) for entry in entries]))


def checkpoint_note(entries: list[bytes]) -> str:
    """The signed note over `entries`."""
    return note_sign(checkpoint(entries).to_text(), LOG_ORIGIN, story.COORDINATOR).decode()


def overlap_note(entries: list[bytes]) -> str:
    """The same by the next key and this one, as it is signed while both are known."""
    return note_sign(checkpoint(entries).to_text(), LOG_ORIGIN, story.NEXT_COORDINATOR, story.COORDINATOR).decode()


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
    """`bundle.json` and `seal.json` of the story's job, as `jobs.evidence.bundles` makes them; the other members are other vectors."""
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
