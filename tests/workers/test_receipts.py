"""Receipts: whatever a host has to say, its envelope is one that the portal takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.protocol import vector_story as story
from workers.protocol.canonical import json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_encode, envelope_open, envelope_read, envelope_sign
from workers.protocol.messages.delivery import RECEIPT_ENVELOPE_BYTES_MAX
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, Failure, FailureCode, GpuUsage, LogReference, ReceiptPredicate, Usage
from workers.protocol.statements import statement_parse
from workers.receipts import RunOutcome, receipt_sign

LARGEST = 1.2345678901234567e300


def predicate_of(envelope: bytes) -> ReceiptPredicate:
    payload = envelope_open(envelope, payload_type=PAYLOAD_TYPE_STATEMENT, key=story.NODE.public)
    return ReceiptPredicate.model_validate(statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE).predicate)


def signed(*, gpus: int, name: str, message: str) -> bytes:
    gpu = GpuUsage(
        name=name,
        utilisation_seconds=LARGEST,
        memory_peak_bytes=2**53 - 1,
        temperature_peak_celsius=-LARGEST,
        energy_joules=LARGEST,
    )
    usage = Usage(
        wall_seconds=LARGEST,
        cpu_seconds=LARGEST,
        memory_peak_bytes=2**53 - 1,
        memory_byte_seconds=LARGEST,
        pids_peak=2**53 - 1,
        read_bytes=2**53 - 1,
        written_bytes=2**53 - 1,
        samples=2**53 - 1,
        gpu_seconds=LARGEST,
        gpus=(gpu,) * gpus,
    )
    outcome = RunOutcome(
        started_at=datetime.max.replace(tzinfo=UTC),
        finished_at=datetime.max.replace(tzinfo=UTC),
        usage=usage,
        exit_code=-(2**53) + 1,
        image_id=digest_of(b"image"),
        failure=Failure(code=FailureCode.INPUT_UNAVAILABLE, message=message),
    )
    log = LogReference(digest=digest_of(b""), size_bytes=2**53 - 1, head=digest_of(b""), lines=2**53 - 1)
    return receipt_sign(opened=story.order(), outcome=outcome, log=log, key=story.NODE, benchmark_gflops=1e8, engine=name * 3)


@pytest.mark.parametrize("character", ["x", '"', "\\", "\x01", "ü", "\U0001f40c"])
@pytest.mark.parametrize("gpus", [0, 1, 64])
def test_receipt_fits_the_portal_whatever_its_names_and_messages(gpus: int, character: str) -> None:
    envelope = signed(gpus=gpus, name=character * 200, message=character * 1000)
    assert len(envelope) <= RECEIPT_ENVELOPE_BYTES_MAX
    found = predicate_of(envelope)
    assert len(found.usage.gpus) == gpus
    assert all(gpu.energy_joules == LARGEST for gpu in found.usage.gpus)
    assert found.failure is not None
    assert found.failure.code is FailureCode.INPUT_UNAVAILABLE


def test_names_and_messages_of_ordinary_length_are_left_as_they_are() -> None:
    name, message = "NVIDIA H100 80GB HBM3", "Größer als erlaubt. " * 20
    found = predicate_of(signed(gpus=16, name=name, message=message))
    assert found.failure is not None
    assert (found.failure.message, {gpu.name for gpu in found.usage.gpus}) == (message, {name})


@settings(max_examples=100)
@given(st.binary(max_size=100), st.text(st.characters(codec="utf-8"), max_size=30))
def test_read_envelope_is_written_as_the_canonical_json_that_it_was(payload: bytes, kind: str) -> None:
    envelope = envelope_sign(payload, kind, story.NODE)
    document = json_parse(envelope, limit_bytes=10_000) if "\0" not in kind else None
    if document is not None:
        assert envelope_read(document).encode() == envelope_encode(document) == envelope
