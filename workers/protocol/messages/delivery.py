"""How receipts, logs and archives are handed in, and what comes of each."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from workers.protocol.digests import Digest
from workers.protocol.messages.base import Json, Message, Problem

UPLOAD_CHUNK_BYTES_MAX: Final = 8 * 1024 * 1024
RECEIPTS_MAX: Final = 256
"""Receipts in one request."""
RECEIPTS_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a request with receipts, as JSON."""
RECEIPT_ENVELOPE_BYTES_MAX: Final = 40 * 1024
"""Of a receipt's envelope as canonical JSON: a leaf of the public log, 65,535 bytes at most, holds it whole."""
RECEIPT_BLOB_BYTES_MAX: Final = 64 * 1024
"""Of a blob that comes along with its receipt; a larger one is uploaded before."""


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
