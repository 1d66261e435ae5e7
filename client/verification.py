"""The offline verifier of result bundles (see workers/protocol/bundles.py). It trusts the coordinator's key that its caller names, only.

1. The bundle holds the members that its index asks for, each once, and no others.
2. The bundle's coordinator key has the id that the caller pinned, or follows from that one by signed successions. Its seal names every
   member by digest, and with them the keys that it had before.
3. Each order is signed by one of these keys, for this portal and the job's image, and names the node key that signed the receipt.
4. Each receipt binds to its order, lease and replica, and its predicate is well-formed and says `completed`.
5. Each log is an unbroken chain from its order to the head that the receipt states.
6. The canonical archive is well-formed and has the digests that its receipt states, file by file.
7. There are as many accepted replicas as the quorum asks for, each by another node key, and exactly one is canonical. Fewer may do where
   the verdict, which is sealed, says that it was ruled on.
8. Each payment is a leaf of the ledger's log under a checkpoint that one of these keys signed, and names this job, replica, receipt and
   node.

What it can't see: that two node keys belong to two owners, and the comparison that made replicas agree; the coordinator vouches for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from client.bundle_file import BundleFile
from workers.protocol import signed_note
from workers.protocol.archives import ArchiveLimits, archive_check
from workers.protocol.bundles import (
    INDEX_LIMIT_BYTES,
    INDEX_NAME,
    SEAL_NAME,
    BundledLedger,
    BundledReplica,
    BundleInvalidError,
    PaymentProof,
    index_parse,
    part_parse,
    seal_open,
)
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.compute_log import LINE_BYTES_MAX, log_check
from workers.protocol.digests import digest_of, digest_stream
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES, PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_key_id, envelope_open
from workers.protocol.epochs import epoch_number_of
from workers.protocol.errors import DigestMismatchError, KeyWrongError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.merkle import inclusion_verify, leaf_hash
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, LogReference, ReceiptPredicate, StoredObject
from workers.protocol.statements import Statement, statement_parse
from workers.protocol.strict_base64 import base64_decode
from workers.protocol.succession import keys_of

LEAF_LIMIT_BYTES = 65_535


class CoordinatorWrongError(VerificationError):
    """The bundle was made under another coordinator key than the one that was pinned."""

    code = "coordinator_wrong"


@dataclass(frozen=True)
class ReplicaReport:
    """One accepted replica that was verified. `paid_micro` is None when its payment is not under the bundle's checkpoint yet."""

    node_name: str
    node_key_id: str
    canonical: bool
    result_digest: str
    log_lines: int
    paid_micro: int | None


@dataclass(frozen=True)
class Report:
    """What a bundle proves. `checkpoint_size` is None for a portal whose ledger had no checkpoint."""

    job_id: str
    label: str
    result_digest: str
    files: int
    size_bytes: int
    quorum: int
    replicas: tuple[ReplicaReport, ...]
    checkpoint_size: int | None


def bundle_verify(path: Path, *, coordinator_key_id: str) -> Report:
    """Verifies the bundle at `path` against the pinned key id (`sha256:…`). Raises VerificationError at the first thing that is wrong."""
    with BundleFile(path) as file:
        return _Bundle(file, coordinator_key_id).verify()


@dataclass(frozen=True)
class _Receipt:
    """A receipt that was verified, with what it was verified against."""

    node_key: PublicKey
    order: Order
    statement: Statement
    predicate: ReceiptPredicate
    digest: str


class _Bundle:
    """One verification; the numbered rules above, in order."""

    def __init__(self, file: BundleFile, coordinator_key_id: str) -> None:
        self._file = file
        self._index = index_parse(file.read(INDEX_NAME, limit_bytes=INDEX_LIMIT_BYTES))
        members = [name for replica in self._index.replicas for name in replica.member_names]
        file.names_check([INDEX_NAME, SEAL_NAME, *members])
        self._coordinator = PublicKey.from_base64(self._index.coordinator_public_key)
        keys = keys_of(self._index.coordinator_predecessors, present=self._coordinator, origin=self._index.origin)
        self._keys = {key.key_id: key for key in keys}
        if coordinator_key_id not in self._keys:
            raise CoordinatorWrongError(
                f"Expected a bundle of the coordinator {coordinator_key_id}, or of its successor; found one of {self._coordinator.key_id}."
            )
        self._seal()

    def verify(self) -> Report:
        index = self._index
        if [replica.canonical for replica in index.replicas].count(True) != 1:
            raise BundleInvalidError("Expected exactly one canonical replica; found another number.")
        reports = []
        files = size_bytes = 0
        checkpoint = self._checkpoint()
        for replica in index.replicas:
            receipt = self._receipt(replica)
            self._log(replica, receipt.predicate)
            if replica.canonical:
                files, size_bytes = self._archive(replica, receipt)
            reports.append(
                ReplicaReport(
                    node_name=replica.node_name,
                    node_key_id=receipt.node_key.key_id,
                    canonical=replica.canonical,
                    result_digest=receipt.predicate.result_digest or "",  # a completed predicate has one
                    log_lines=receipt.predicate.log.lines,
                    paid_micro=None if replica.payment is None else self._payment(replica.folder, replica.payment, checkpoint, receipt),
                )
            )
        if len({report.node_key_id for report in reports}) != len(reports):
            raise BundleInvalidError("Two replicas of the bundle are by the same node key.")
        is_ruled = (index.job.verdict or {}).get("ruled") is True
        if len(reports) < index.job.quorum and not is_ruled:
            raise BundleInvalidError(f"Expected {index.job.quorum} accepted replicas, the job's quorum; found {len(reports)}.")
        return Report(
            job_id=str(index.job.id),
            label=index.job.label,
            result_digest=next(report.result_digest for report in reports if report.canonical),
            files=files,
            size_bytes=size_bytes,
            quorum=index.job.quorum,
            replicas=tuple(reports),
            checkpoint_size=checkpoint.size if checkpoint else None,
        )

    def _seal(self) -> None:
        sealed = seal_open(self._file.read(SEAL_NAME, limit_bytes=ENVELOPE_LIMIT_BYTES), key=self._coordinator)
        _same("the members that the seal names", sorted(self._file.names - {SEAL_NAME}), sorted(sealed))
        for name in sorted(sealed):
            with self._file.opened(name) as member:
                digest, _ = digest_stream(member)
            if digest != sealed[name]:
                raise DigestMismatchError(f"{name}: the coordinator sealed bytes with the digest {sealed[name]}; found {digest}.")

    def _receipt(self, replica: BundledReplica) -> _Receipt:
        key = PublicKey.from_base64(replica.node_public_key)
        order_payload = self._order(f"{replica.folder}/order.json")
        order = part_parse(Order, json_parse(order_payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
        payload = self._envelope(f"{replica.folder}/receipt.json", PAYLOAD_TYPE_STATEMENT, key)
        statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        predicate = part_parse(ReceiptPredicate, statement.predicate)
        for what, expected, found in (
            ("node key of the order", key.key_id, order.node_key_id),
            ("origin of the order", self._index.origin, order.origin),
            ("image of the order", self._index.job.image, order.image),
            ("type of the order", self._index.job.type, order.job_type),
            ("order of the receipt", digest_of(order_payload), predicate.order_digest),
            ("replica of the receipt", order.replica_id, predicate.replica_id),
            ("lease of the receipt", order.lease_id, predicate.lease_id),
            ("node key of the receipt", key.key_id, predicate.node_key_id),
            ("outcome", "completed", predicate.outcome),
        ):
            _same(f"{replica.folder}: {what}", expected, found)
        return _Receipt(key, order, statement, predicate, digest_of(payload))

    def _order(self, name: str) -> bytes:
        signer = envelope_key_id(self._file.read(name, limit_bytes=ENVELOPE_LIMIT_BYTES))
        return self._envelope(name, PAYLOAD_TYPE_ORDER, self._keys.get(signer, self._coordinator))

    def _envelope(self, name: str, payload_type: str, key: PublicKey) -> bytes:
        """The payload of a signed member, which has one byte form."""
        data = self._file.read(name, limit_bytes=ENVELOPE_LIMIT_BYTES)
        payload = envelope_open(data, payload_type=payload_type, key=key)
        if canonical_json(json_parse(data, limit_bytes=ENVELOPE_LIMIT_BYTES)) != data:
            raise BundleInvalidError(f"{name} is not in canonical JSON.")
        return payload

    def _log(self, replica: BundledReplica, predicate: ReceiptPredicate) -> None:
        name, stated = f"{replica.folder}/log.jsonl", predicate.log
        with self._file.opened(name) as stream:
            summary = log_check(_lines(stream), order_digest=predicate.order_digest, head=stated.head, lines_expected=stated.lines)
        found = LogReference(digest=summary.digest, size_bytes=summary.size_bytes, head=summary.head, lines=summary.lines)
        _same(f"{name} as the receipt states it", stated, found)

    def _archive(self, replica: BundledReplica, receipt: _Receipt) -> tuple[int, int]:
        name, stated = f"{replica.folder}/archive.tar", receipt.predicate.archive
        # How large a result may be, its job says: what the node signed is the bound.
        limits = ArchiveLimits(content_bytes=stated.size_bytes if stated else 0)
        with self._file.opened(name) as stream:
            info = archive_check(stream, limits=limits)
        _same(f"{name} as the receipt states it", stated, StoredObject(digest=info.digest, size_bytes=info.size_bytes))
        _same("result digest", receipt.predicate.result_digest, info.result_digest)
        subjects = {subject.name: subject.digest_text for subject in receipt.statement.subjects}
        _same("subjects", {"archive": info.digest, "log": receipt.predicate.log.digest, "manifest": info.result_digest}, subjects)
        return len(info.manifest.files), info.size_bytes

    def _checkpoint(self) -> signed_note.Checkpoint | None:
        ledger = self._index.ledger
        if ledger is None:
            return None
        if epoch_number_of(authority := _authority(self._index.origin), ledger.origin) is None:
            raise BundleInvalidError(f"ledger origin: expected {authority}/ledger, found {ledger.origin[:200]}.")
        text = self._note_open(ledger)
        checkpoint = signed_note.Checkpoint.from_text(text)
        _same("origin of the checkpoint", ledger.origin, checkpoint.origin)
        return checkpoint

    def _note_open(self, ledger: BundledLedger) -> str:
        """The checkpoint's text: the present key signs each new one, so an older key's may still be the newest."""
        *before, present = self._keys.values()
        for key in before:
            with suppress(KeyWrongError):
                return signed_note.note_open(ledger.checkpoint.encode(), name=ledger.origin, key=key)
        return signed_note.note_open(ledger.checkpoint.encode(), name=ledger.origin, key=present)

    def _payment(self, folder: str, payment: PaymentProof, checkpoint: signed_note.Checkpoint | None, receipt: _Receipt) -> int:
        if checkpoint is None:
            raise BundleInvalidError(f"{folder}: expected a checkpoint beside the proof of payment; the bundle has none.")
        try:
            data = base64_decode(payment.leaf)
            proof = [base64_decode(one) for one in payment.proof]
        except ValueError as error:
            raise BundleInvalidError(f"{folder}: the payment's proof is not base64: {error}.") from error
        inclusion_verify(leaf_hash(data), payment.index, checkpoint.size, proof, checkpoint.root)
        leaf = json_parse(data, limit_bytes=LEAF_LIMIT_BYTES)
        expected = {
            "job": str(self._index.job.id),
            "replica": str(receipt.order.replica_id),
            "receipt": receipt.digest,
            "node_key": receipt.node_key.key_id,
        }
        try:
            _same(f"{folder}: kind of the entry that paid it", "payment", leaf["kind"])
            for name, value in expected.items():
                _same(f"{folder}: {name} that was paid", value, leaf["evidence"][name])
            return max(int(posting["amount_micro"]) for posting in leaf["postings"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleInvalidError(f"{folder}: the payment's leaf is no payment: {type(error).__name__} {error}.") from error


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a log; one that is longer than a line may be comes in pieces, so it is never held whole."""
    while line := stream.readline(LINE_BYTES_MAX + 1):
        yield line


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError as error:
        raise BundleInvalidError(f"Expected the address of a portal as origin; found {origin[:100]!r}.") from error


def _same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise BundleInvalidError(f"{what}: expected {str(expected)[:200]}, found {str(found)[:200]}.")
