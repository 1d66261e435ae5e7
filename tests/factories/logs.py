"""Logs without a portal: leaves as a coordinator writes them, and whole logs as files (C2SP tlog-tiles) that an auditor can read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from client.audit.tree import TiledTree
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, pae
from workers.protocol.keys import PrivateKey
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY, spot_chosen
from workers.protocol.merkle import leaf_hash
from workers.protocol.messages.joining import CoordinatorInfo, PredecessorKey
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE
from workers.protocol.pay import payment_micro, reservation_micro
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.statements import STATEMENT_TYPE
from workers.protocol.strict_base64 import base64_encode
from workers.protocol.tlog_tiles import TILE_WIDTH, place_text

Leaf = dict[str, Any]

ORIGIN = "https://portal.example"
LOG = "portal.example/ledger"
COORDINATOR = PrivateKey.from_raw(b"\x31" * 32)
FLOPS, RATE_MICRO = 3.6e15, 1_000_000
BEGAN = datetime(2027, 1, 15, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Host:
    """A node with a key, whose work is paid to `account`."""

    key: PrivateKey
    node: UUID
    account: UUID


@dataclass
class LogMaker:
    """Makes leaves one after the other: documents, to be changed at will before they are written. The same seed makes the same log."""

    seed: int = 7
    leaves: list[Leaf] = field(default_factory=list)
    entries: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def add(self, kind: str, key: str, **members: Any) -> Leaf:
        """A leaf of any content, a second after the one before."""
        at = (BEGAN + timedelta(seconds=len(self.leaves))).isoformat()
        leaf = {"kind": kind, "key": key, "at": at, **members}
        self.leaves.append(leaf)
        return leaf

    def entry(self, kind: str, key: str, evidence: Mapping[str, Any], *, source: UUID, target: UUID, amount: int) -> Leaf:
        self.entries += 1
        postings = [
            {"account": str(source), "amount_micro": str(-amount)},
            {"account": str(target), "amount_micro": str(amount)},
        ]
        return self.add(kind, key, entry=str(self.entries), evidence=dict(evidence), postings=postings)

    def grant(self, account: UUID, amount: int) -> Leaf:
        evidence = {"reason": "start grant"}
        return self.entry("grant", f"grant:{self.uuid()}", evidence, source=ACCOUNT_TREASURY, target=account, amount=amount)

    def host(self) -> Host:
        """A new node of a new owner, registered."""
        host = Host(PrivateKey.from_raw(self._random.randbytes(32)), self.uuid(), self.uuid())
        key = host.key.public
        named = {"node": str(host.node), "public_key": key.to_base64(), "account": str(host.account)}
        self.add("node_key", f"node_key:{key.key_id}", **named)
        return host

    def reservation(self, job: UUID, account: UUID, amount: int) -> Leaf:
        return self.entry("reservation", f"reservation:{job}", {"job": str(job)}, source=account, target=ACCOUNT_ESCROW, amount=amount)

    def receipt(
        self,
        job: UUID,
        host: Host,
        *,
        replica: UUID | None = None,
        accepted: bool = True,
        quorum: int = 1,
        spot: Mapping[str, Any] | None = None,
        sign_key: PrivateKey | None = None,
        **predicate: Any,
    ) -> Leaf:
        """`predicate` changes what the host says, `sign_key` who signs it."""
        replica = replica or self.uuid()
        payload = receipt_payload(self, host, replica, **predicate)
        signer = sign_key or host.key
        signature = signer.sign(pae(payload, PAYLOAD_TYPE_STATEMENT))
        envelope = {
            "payload": base64_encode(payload),
            "payloadType": PAYLOAD_TYPE_STATEMENT,
            "signatures": [{"keyid": signer.public.key_id, "sig": base64_encode(signature)}],
        }
        return self.add(
            "receipt",
            f"receipt:{replica}",
            job=str(job),
            replica=str(replica),
            receipt=digest_of(payload),
            accepted=accepted,
            quorum=quorum,
            spot=dict(spot) if spot else None,
            envelope=envelope,
        )

    def payment(self, receipt: Leaf, host: Host, *, reserved: int, sharing: int = 1, amount: int | None = None) -> Leaf:
        """Pays for a receipt leaf; `sharing` accepted replicas share the reservation. `amount`: another one than the formula gives."""
        share = reserved // sharing
        worth = min(share, payment_micro(estimated_flops=FLOPS, calibration_ratio=1.0, rate_micro=RATE_MICRO))
        formula = {
            "version": "1",
            "estimated_flops": repr(FLOPS),
            "calibration_ratio": repr(1.0),
            "rate_micro": str(RATE_MICRO),
            "share_micro": str(share),
        }
        evidence = {
            "job": receipt["job"],
            "replica": receipt["replica"],
            "receipt": receipt["receipt"],
            "node_key": host.key.public.key_id,
            "formula": formula,
        }
        key = f"payment:{receipt['replica']}"
        return self.entry("payment", key, evidence, source=ACCOUNT_ESCROW, target=host.account, amount=worth if amount is None else amount)

    def refund(self, job: UUID, account: UUID, amount: int) -> Leaf:
        return self.entry("refund", f"refund:{job}", {"job": str(job)}, source=ACCOUNT_ESCROW, target=account, amount=amount)

    def transfer(self, source: UUID, target: UUID, amount: int) -> Leaf:
        return self.entry("transfer", f"transfer:{source}:{self.uuid()}", {}, source=source, target=target, amount=amount)

    def reversal(self, entry: Leaf, *, source: UUID, target: UUID, amount: int) -> Leaf:
        evidence = {"entry": entry["entry"], "reason": "a mistake"}
        return self.entry("reversal", f"reversal:{entry['entry']}", evidence, source=source, target=target, amount=amount)

    def job(self, account: UUID, hosts: Sequence[Host], **receipt: Any) -> UUID:
        """A whole job: reserved, run by these hosts, who all agree, paid and refunded."""
        job = self.uuid()
        reserved = reservation_micro(estimated_flops=FLOPS, rate_micro=RATE_MICRO, replicas_max=2)
        self.reservation(job, account, reserved)
        receipts = [self.receipt(job, host, **{"quorum": len(hosts), **receipt}) for host in hosts]
        payments = [self.payment(one, host, reserved=reserved, sharing=len(hosts)) for one, host in zip(receipts, hosts, strict=True)]
        paid = sum(int(one["postings"][1]["amount_micro"]) for one in payments)
        self.refund(job, account, reserved - paid)
        return job

    def spot_commitment(self, spot_key: UUID, secret: bytes) -> Leaf:
        return self.add("spot_commitment", f"spot_commitment:{spot_key}", spot_key=str(spot_key), commitment=digest_of(secret))

    def spot_key(self, spot_key: UUID, secret: bytes) -> Leaf:
        return self.add("spot_key", f"spot_key:{spot_key}", spot_key=str(spot_key), secret=secret.hex())


def log_make(seed: int = 7) -> LogMaker:
    """A small honest log of all kinds: grants, hosts, jobs of one and two hosts, a reversal, draws with their key, a transfer."""
    log = LogMaker(seed)
    person, secret, spot_key = log.uuid(), bytes(range(32)), log.uuid()
    log.grant(person, 1_000_000_000)
    mistaken = log.uuid()
    grant = log.grant(mistaken, 5)
    hosts = [log.host() for _ in range(3)]
    log.spot_commitment(spot_key, secret)
    log.reversal(grant, source=mistaken, target=ACCOUNT_TREASURY, amount=5)
    log.job(person, hosts[:1])
    log.job(person, hosts[1:])
    for _ in range(4):
        job = log.uuid()
        chosen = spot_chosen(secret=secret, job_id=job, share=0.5)
        reserved = 2 * 4_000_000
        log.reservation(job, person, reserved)
        running = hosts[:2] if chosen else hosts[:1]
        spot = {"spot_key": str(spot_key), "share": "0.5", "chosen": chosen}
        receipts = [log.receipt(job, host, quorum=len(running), spot=spot) for host in running]
        for receipt, host in zip(receipts, running, strict=True):
            log.payment(receipt, host, reserved=reserved, sharing=len(running))
        log.refund(job, person, reserved - 1_000_000 * len(running))
    cancelled = log.uuid()
    log.reservation(cancelled, person, 77)
    log.refund(cancelled, person, 77)
    log.transfer(person, mistaken, 42)
    log.spot_key(spot_key, secret)
    return log


def receipt_payload(maker: LogMaker, host: Host, replica: UUID, /, **changed: Any) -> bytes:
    """The statement that a host signs about a completed run."""
    archive, head, manifest, order = (f"sha256:{maker.uuid().hex * 2}" for _ in range(4))
    predicate = {
        "receipt_version": 1,
        "order_digest": order,
        "replica_id": str(replica),
        "lease_id": str(maker.uuid()),
        "node_key_id": host.key.public.key_id,
        "started_at": BEGAN.isoformat(),
        "finished_at": BEGAN.isoformat(),
        "outcome": "completed",
        "exit_code": 0,
        "failure": None,
        "result_digest": manifest,
        "archive": {"digest": archive, "size_bytes": 4096},
        "log": {"digest": head, "head": head, "lines": 8, "size_bytes": 2048},
        "usage": {"wall_seconds": 1.5, "cpu_seconds": 1.25, "memory_peak_bytes": 20_000_000, "samples": 1},
        "benchmark_gflops": 12.5,
        "image_id": None,
        "engine": "docker 27.0.3",
        **changed,
    }
    named = {"log": head, "archive": archive, "manifest": manifest}
    subjects = [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in named.items()]
    document = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": RECEIPT_PREDICATE_TYPE, "predicate": predicate}
    return leaf_encode(document)


def leaf_encode(document: Mapping[str, Any]) -> bytes:
    """Its canonical JSON, several times faster: these documents are ASCII, with numbers that Python writes as RFC 8785 does."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class LogFolder:
    """A log as static files below `folder`, with the layout of `/api/v1/`. Append, then sign; files of earlier sizes stay."""

    def __init__(
        self, folder: Path, *, key: PrivateKey = COORDINATOR, log: str = LOG, predecessors: tuple[PredecessorKey, ...] = ()
    ) -> None:
        self.folder, self.key, self.log = folder, key, log
        self._bundle: list[bytes] = []
        self._tree = TiledTree(self._tile_write)
        info = CoordinatorInfo(
            protocol_versions=(1,), origin=ORIGIN, public_key=key.public.to_base64(), key_id=key.public.key_id, predecessors=predecessors
        )
        self.write("coordinator", canonical_json(info.model_dump(mode="json")))

    @property
    def size(self) -> int:
        return self._tree.size

    def write(self, path: str, data: bytes) -> Path:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return place

    def append(self, leaves: Iterable[bytes]) -> None:
        for data in leaves:
            self._bundle.append(data)
            self._tree.append(leaf_hash(data))
            if len(self._bundle) == TILE_WIDTH:
                self._bundle_write(self._tree.size // TILE_WIDTH - 1, "")
                self._bundle.clear()

    def sign(self) -> bytes:
        """Writes the partial tiles at the edge, and a checkpoint; returns its note."""
        for level, index, hashes in self._tree.edge():
            self.write(f"ledger/tile/{level}/{place_text(index)}.p/{len(hashes)}", b"".join(hashes))
        if self._bundle:
            self._bundle_write(self._tree.size // TILE_WIDTH, f".p/{len(self._bundle)}")
        note = note_sign(Checkpoint(self.log, self._tree.size, self._tree.root()).to_text(), self.log, self.key)
        self.write("ledger/checkpoint", note)
        return note

    def _tile_write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        self.write(f"ledger/tile/{level}/{place_text(index)}", b"".join(hashes))

    def _bundle_write(self, index: int, suffix: str) -> None:
        data = b"".join(len(one).to_bytes(2, "big") + one for one in self._bundle)
        self.write(f"ledger/tile/entries/{place_text(index)}{suffix}", data)


def log_write(folder: Path, leaves: Iterable[Leaf | bytes], *, key: PrivateKey = COORDINATOR) -> LogFolder:
    """A signed log of these leaves as files."""
    written = LogFolder(folder, key=key)
    written.append(one if isinstance(one, bytes) else canonical_json(one) for one in leaves)
    written.sign()
    return written
