"""Statements of epochs: names of logs, signatures, and what continues what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.protocol import vector_story as story
from tests.workers.protocol.vector_files import VECTORS
from workers.protocol.canonical import canonical_json
from workers.protocol.dsse import PAYLOAD_TYPE_EPOCH, PAYLOAD_TYPE_SUCCESSION, envelope_sign
from workers.protocol.epochs import (
    EPOCHS_MAX,
    ContinuedLog,
    Epoch,
    EpochInvalidError,
    epoch_number_of,
    epoch_open,
    epoch_sign,
    epochs_open,
    log_origin_of,
)
from workers.protocol.errors import EnvelopeTypeWrongError, KeyWrongError, VerificationError
from workers.protocol.keys import PrivateKey

AUTHORITY = "portal.example"
KEYS = [story.COORDINATOR.public, story.NEXT_COORDINATOR.public]


def statement(number: int = 2, *, after: int = 1, key: PrivateKey = story.COORDINATOR, **changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "number": number,
        "origin": log_origin_of(AUTHORITY, number),
        "continues": ContinuedLog(origin=log_origin_of(AUTHORITY, after), size=3, root="A" * 43 + "="),
        "published": None,
        "reason": "restored",
        "began_at": story.NOW,
    }
    return dict(json.loads(epoch_sign(Epoch(**{**values, **changed}), key=key)))


def opened(*envelopes: dict[str, Any]) -> tuple[int, ...]:
    return tuple(epoch.number for epoch in epochs_open(envelopes, keys=KEYS, authority=AUTHORITY))


def test_the_statement_of_the_vectors_is_read() -> None:
    [epoch] = epochs_open([VECTORS["epoch"]["envelope"]], keys=[story.COORDINATOR.public], authority=AUTHORITY)
    assert (epoch.number, epoch.origin, epoch.continues.size) == (2, "portal.example/ledger/2", 5)
    assert epoch.published is not None


def test_no_statement_is_one_epoch() -> None:
    assert opened() == ()


def test_epochs_follow_each_other_and_may_skip_numbers_and_change_keys() -> None:
    assert opened(statement(2), statement(4, after=2, key=story.NEXT_COORDINATOR)) == (2, 4)


@pytest.mark.parametrize(
    "envelopes",
    [
        [statement(2), statement(2)],
        [statement(3), statement(2)],
        [statement(2), statement(3)],
        [statement(2, after=2)],
        [statement(2, origin="portal.example/ledger")],
        [statement(2, origin="elsewhere.example/ledger/2")],
        [statement(2, continues=ContinuedLog(origin="elsewhere.example/ledger", size=3, root="A" * 43 + "="))],
    ],
)
def test_epochs_that_do_not_continue_the_one_before_are_refused(envelopes: list[dict[str, Any]]) -> None:
    with pytest.raises(EpochInvalidError) as caught:
        opened(*envelopes)
    assert caught.value.code == "epoch_invalid"


def test_a_strangers_statement_is_refused() -> None:
    with pytest.raises(KeyWrongError):
        opened(statement(2, key=PrivateKey.generate()))


def test_a_statement_of_another_type_is_refused() -> None:
    envelope = json.loads(envelope_sign(b"{}", PAYLOAD_TYPE_SUCCESSION, story.COORDINATOR))
    with pytest.raises(EnvelopeTypeWrongError):
        epoch_open(envelope, key=story.COORDINATOR.public)


@pytest.mark.parametrize("change", [{"number": 1}, {"number": EPOCHS_MAX + 1}, {"reason": ""}, {"epoch_version": 2}, {"began_at": "now"}])
def test_a_payload_that_is_no_statement_is_refused(change: dict[str, Any]) -> None:
    payload = {**VECTORS["epoch"]["payload"], **change}
    envelope = json.loads(envelope_sign(canonical_json(payload), PAYLOAD_TYPE_EPOCH, story.COORDINATOR))
    with pytest.raises(EpochInvalidError):
        epoch_open(envelope, key=story.COORDINATOR.public)


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.text(max_size=9) | st.integers(), st.lists, max_leaves=5)))
def test_any_object_is_refused_with_an_error_of_the_protocol(envelope: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        opened(envelope)


@given(st.integers(1, EPOCHS_MAX))
def test_a_logs_name_tells_its_epoch(number: int) -> None:
    assert epoch_number_of(AUTHORITY, log_origin_of(AUTHORITY, number)) == number


@pytest.mark.parametrize("origin", ["", "portal.example", "portal.example/ledger/", "portal.example/ledger/1", "portal.example/ledger/02"])
def test_another_name_is_no_epoch(origin: str) -> None:
    assert epoch_number_of(AUTHORITY, origin) is None
