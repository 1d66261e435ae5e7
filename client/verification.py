"""The offline verifier of result bundles (jobs/bundles.py). It trusts the coordinator's key that its caller names, and nothing else.

1. The bundle's coordinator key has the id that the caller pinned.
2. Each order is signed by that key and names the node key that signed the receipt.
3. Each receipt binds to its order, lease and replica, and its predicate is well-formed and says `completed`.
4. Each log is an unbroken chain from its order to the head that the receipt states.
5. The canonical archive is well-formed and has the digests that its receipt states, file by file.
6. There are as many accepted replicas as the quorum asks for, each by another node key.
7. Each payment is a leaf of the ledger's log under a checkpoint that the coordinator signed, and names this receipt and this node.

What it can't see: that two node keys belong to two owners, and the comparison that made replicas agree; the coordinator vouches for both.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.protocol import signed_note
from workers.protocol.archives import archive_check
from workers.protocol.canonical import json_parse
from workers.protocol.compute_log import log_check
from workers.protocol.digests import digest_of, digest_stream
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.merkle import inclusion_verify, leaf_hash
from workers.protocol.messages import RECEIPT_PREDICATE_TYPE, Order, ReceiptPredicate, StoredObject
from workers.protocol.statements import Statement, statement_parse
from workers.protocol.strict_base64 import base64_decode

INDEX_LIMIT_BYTES = 16 * 2**20
ENVELOPE_LIMIT_BYTES = 8 * 2**20

PartT = TypeVar("PartT", bound=BaseModel)


class BundleInvalidError(VerificationError):
    """The file is no bundle, or contradicts itself."""

    code = "bundle_invalid"


class CoordinatorWrongError(VerificationError):
    """The bundle was made under another coordinator key than the one that was pinned."""

    code = "coordinator_wrong"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _PaymentProof(_Part):
    index: int = Field(ge=0)
    leaf: str
    proof: tuple[str, ...]


class _BundledReplica(_Part):
    folder: str = Field(pattern=r"^replica-[1-9][0-9]*$")
    node_public_key: str
    node_name: str = Field(max_length=64)
    canonical: bool
    payment: _PaymentProof | None


class _BundledJob(_Part):
    id: str
    label: str
    quorum: int = Field(ge=1)


class _Ledger(_Part):
    origin: str
    checkpoint: str


class _Index(_Part):
    bundle_version: int = Field(ge=1, le=1)
    job: _BundledJob
    origin: str
    coordinator_public_key: str
    replicas: tuple[_BundledReplica, ...] = Field(min_length=1, max_length=64)
    ledger: _Ledger | None


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
    """What a bundle proves."""

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
    try:
        with zipfile.ZipFile(path) as bundle:
            return _Bundle(bundle, coordinator_key_id).verify()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise BundleInvalidError(f"{path.name} is not a readable bundle: {error}") from error


class _Bundle:
    """One verification; the numbered rules above, in order."""

    def __init__(self, bundle: zipfile.ZipFile, coordinator_key_id: str) -> None:
        self._bundle = bundle
        names = [member.filename for member in bundle.infolist()]
        if len(set(names)) != len(names):
            raise BundleInvalidError("Two members of the bundle have the same name.")
        self._index = _parse(_Index, json_parse(self._read("bundle.json", INDEX_LIMIT_BYTES), limit_bytes=INDEX_LIMIT_BYTES))
        self._coordinator = PublicKey.from_base64(self._index.coordinator_public_key)
        if self._coordinator.key_id != coordinator_key_id:
            raise CoordinatorWrongError(
                f"Expected a bundle of the coordinator {coordinator_key_id}; found one of {self._coordinator.key_id}."
            )

    def verify(self) -> Report:
        index = self._index
        if [replica.canonical for replica in index.replicas].count(True) != 1:
            raise BundleInvalidError("A bundle has exactly one canonical replica.")
        checkpoint = self._checkpoint()
        reports = []
        files = size_bytes = 0
        for replica in index.replicas:
            key, predicate, statement, receipt_digest = self._receipt(replica)
            self._log(replica, predicate)
            if replica.canonical:
                files, size_bytes = self._archive(replica, predicate, statement)
            paid = self._payment(replica, checkpoint, receipt_digest, key) if replica.payment and checkpoint else None
            result_digest = predicate.result_digest or ""  # a completed predicate has one
            reports.append(ReplicaReport(replica.node_name, key.key_id, replica.canonical, result_digest, predicate.log.lines, paid))
        if len({report.node_key_id for report in reports}) != len(reports):
            raise BundleInvalidError("Two replicas of the bundle are by the same node key.")
        if len(reports) < index.job.quorum:
            raise BundleInvalidError(f"The job's quorum is {index.job.quorum}; the bundle has {len(reports)} accepted replicas.")
        return Report(
            job_id=index.job.id,
            label=index.job.label,
            result_digest=next(report.result_digest for report in reports if report.canonical),
            files=files,
            size_bytes=size_bytes,
            quorum=index.job.quorum,
            replicas=tuple(reports),
            checkpoint_size=checkpoint.size if checkpoint else None,
        )

    def _receipt(self, replica: _BundledReplica) -> tuple[PublicKey, ReceiptPredicate, Statement, str]:
        key = PublicKey.from_base64(replica.node_public_key)
        order_payload = envelope_open(
            self._read(f"{replica.folder}/order.json", ENVELOPE_LIMIT_BYTES), payload_type=PAYLOAD_TYPE_ORDER, key=self._coordinator
        )
        order = _parse(Order, json_parse(order_payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
        _same(f"{replica.folder}: node key of the order", key.key_id, order.node_key_id)
        payload = envelope_open(
            self._read(f"{replica.folder}/receipt.json", ENVELOPE_LIMIT_BYTES), payload_type=PAYLOAD_TYPE_STATEMENT, key=key
        )
        statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        predicate = _parse(ReceiptPredicate, statement.predicate)
        _same(f"{replica.folder}: order digest", digest_of(order_payload), predicate.order_digest)
        _same(f"{replica.folder}: replica", order.replica_id, predicate.replica_id)
        _same(f"{replica.folder}: lease", order.lease_id, predicate.lease_id)
        _same(f"{replica.folder}: node key of the receipt", key.key_id, predicate.node_key_id)
        _same(f"{replica.folder}: outcome", "completed", predicate.outcome)
        return key, predicate, statement, digest_of(payload)

    def _log(self, replica: _BundledReplica, predicate: ReceiptPredicate) -> None:
        with self._opened(f"{replica.folder}/log.jsonl") as lines:
            summary = log_check(lines, order_digest=predicate.order_digest, head=predicate.log.head, lines_expected=predicate.log.lines)
        _same(f"{replica.folder}: log digest", predicate.log.digest, summary.digest)

    def _archive(self, replica: _BundledReplica, predicate: ReceiptPredicate, statement: Statement) -> tuple[int, int]:
        with self._opened(f"{replica.folder}/archive.tar") as stream:
            digest, size_bytes = digest_stream(stream)
        _same("archive", predicate.archive, StoredObject(digest=digest, size_bytes=size_bytes))
        with self._opened(f"{replica.folder}/archive.tar") as stream:
            info = archive_check(stream)
        _same("result digest", predicate.result_digest, info.result_digest)
        stated = {s.name.removeprefix("outputs/"): s.digest_text for s in statement.subjects if s.name.startswith("outputs/")}
        _same("output files", stated, {file.path: file.digest for file in info.manifest.files})
        return len(info.manifest.files), size_bytes

    def _checkpoint(self) -> signed_note.Checkpoint | None:
        ledger = self._index.ledger
        if ledger is None:
            return None
        _same("ledger origin", f"{urlsplit(self._index.origin).netloc}/ledger", ledger.origin)
        text = signed_note.note_open(ledger.checkpoint.encode(), name=ledger.origin, key=self._coordinator)
        checkpoint = signed_note.Checkpoint.from_text(text)
        _same("origin of the checkpoint", ledger.origin, checkpoint.origin)
        return checkpoint

    def _payment(self, replica: _BundledReplica, checkpoint: signed_note.Checkpoint, receipt_digest: str, key: PublicKey) -> int:
        payment = cast("_PaymentProof", replica.payment)
        try:
            data = base64_decode(payment.leaf)
            proof = [base64_decode(one) for one in payment.proof]
        except ValueError as error:
            raise BundleInvalidError(f"{replica.folder}: the payment's proof is not base64: {error}.") from error
        inclusion_verify(leaf_hash(data), payment.index, checkpoint.size, proof, checkpoint.root)
        leaf = json_parse(data, limit_bytes=INDEX_LIMIT_BYTES)
        try:
            evidence = leaf["evidence"]
            _same(f"{replica.folder}: receipt that was paid", receipt_digest, evidence["receipt"])
            _same(f"{replica.folder}: node that was paid", key.key_id, evidence["node_key"])
            return max(int(posting["amount_micro"]) for posting in leaf["postings"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleInvalidError(f"{replica.folder}: the payment's leaf is no payment: {error!r}.") from error

    def _read(self, name: str, limit_bytes: int) -> bytes:
        with self._opened(name) as member:
            data = member.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise BundleInvalidError(f"{name} has more than {limit_bytes} bytes.")
        return data

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        try:
            info = self._bundle.getinfo(name)
        except KeyError as error:
            raise BundleInvalidError(f"The bundle has no {name}.") from error
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise BundleInvalidError(f"{name} is compressed or encrypted; members of a bundle are stored.")
        with self._bundle.open(info) as member:
            yield cast("BinaryIO", member)


def _parse(model: type[PartT], value: Any) -> PartT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"]) or "the whole"
        raise BundleInvalidError(f"{model.__name__.strip('_')}: {where}: {first['msg']}.") from error


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise BundleInvalidError(f"{what}: expected {str(expected)[:200]}, found {str(found)[:200]}.")
