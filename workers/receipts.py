"""Receipts: what a host states about a run, signed with the node's key (DSSE around an in-toto Statement v1)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from workers.orders import OpenedOrder
from workers.protocol.archives import ArchiveInfo
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.delivery import RECEIPT_ENVELOPE_BYTES_MAX
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, Failure, LogReference, ReceiptPredicate, StoredObject, Usage
from workers.protocol.statements import Subject, statement_build

LOG_FILE = "log.jsonl"
ARCHIVE_FILE = "archive.tar"
"""What the blobs that a receipt names are called in their lease's folder."""

GPU_NAME_CHARACTERS_SHORT, MESSAGE_CHARACTERS_SHORT = 24, 300
"""What is left of names and messages where a receipt would be too large with all of them."""

NOTHING_USED = Usage(wall_seconds=0, cpu_seconds=0, memory_peak_bytes=0, samples=0)


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: `archive` for one that completed, `failure` for one that did not, never both."""

    started_at: datetime
    finished_at: datetime
    usage: Usage = NOTHING_USED
    exit_code: int | None = None
    image_id: str | None = None
    archive: ArchiveInfo | None = None
    failure: Failure | None = None


def receipt_sign(
    *, opened: OpenedOrder, outcome: RunOutcome, log: LogReference, key: PrivateKey, benchmark_gflops: float, engine: str
) -> bytes:
    """The receipt's envelope, canonical JSON of at most RECEIPT_ENVELOPE_BYTES_MAX bytes.

    Subjects: `log`; for a completed run `archive` and `manifest`.
    """
    archive = outcome.archive
    predicate = ReceiptPredicate(
        order_digest=opened.digest,
        replica_id=opened.order.replica_id,
        lease_id=opened.order.lease_id,
        node_key_id=key.public.key_id,
        started_at=outcome.started_at,
        # A clock may be set back during a run; a receipt that ends before it starts would be refused, and the work lost.
        finished_at=max(outcome.started_at, outcome.finished_at),
        outcome="failed" if archive is None else "completed",
        exit_code=outcome.exit_code,
        failure=outcome.failure,
        result_digest=None if archive is None else archive.result_digest,
        archive=None if archive is None else StoredObject(digest=archive.digest, size_bytes=archive.size_bytes),
        log=log,
        usage=outcome.usage,
        benchmark_gflops=benchmark_gflops,
        image_id=outcome.image_id,
        engine=engine[:200],
    )
    subjects = [Subject.of("log", log.digest)]
    if archive is not None:
        subjects += [Subject.of("archive", archive.digest), Subject.of("manifest", archive.result_digest)]
    envelope = _signed(subjects, predicate, key)
    # Only with dozens of GPUs of long names, or a message of characters that JSON spells at length.
    return envelope if len(envelope) <= RECEIPT_ENVELOPE_BYTES_MAX else _signed(subjects, _shortened(predicate), key)


def _signed(subjects: Sequence[Subject], predicate: ReceiptPredicate, key: PrivateKey) -> bytes:
    payload = statement_build(subjects, RECEIPT_PREDICATE_TYPE, predicate.model_dump(mode="json"))
    return envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, key)


def _shortened(predicate: ReceiptPredicate) -> ReceiptPredicate:
    """The same with short names and messages of plain characters: what it measured and what it names stays whole."""
    failure = predicate.failure
    usage = predicate.usage
    gpus = tuple(gpu.model_copy(update={"name": _plain(gpu.name, GPU_NAME_CHARACTERS_SHORT)}) for gpu in usage.gpus)
    return predicate.model_copy(
        update={
            "usage": usage.model_copy(update={"gpus": gpus}),
            "failure": failure and failure.model_copy(update={"message": _plain(failure.message, MESSAGE_CHARACTERS_SHORT)}),
            "engine": _plain(predicate.engine, GPU_NAME_CHARACTERS_SHORT),
        }
    )


def _plain(text: str, characters_max: int) -> str:
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text)[:characters_max]


def file_sync(file: BinaryIO) -> None:
    """Have the disk hold what was written, before a receipt names its digest: a power cut must not take it away again."""
    file.flush()
    os.fsync(file.fileno())
