"""The coordinator's chain of keys: what leads from one to the next, and what doesn't."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.protocol import vector_story as story
from workers.protocol.dsse import PAYLOAD_TYPE_SUCCESSION, envelope_sign
from workers.protocol.errors import (
    EnvelopeMalformedError,
    KeyMalformedError,
    KeyWrongError,
    SuccessionInvalidError,
    VerificationError,
)
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import PredecessorKey
from workers.protocol.succession import Succession, keys_of, succession_open, succession_sign

KEYS = [PrivateKey.from_raw(bytes([number] * 32)) for number in range(1, 5)]


def step(old: PrivateKey, new: PrivateKey, *, origin: str = story.ORIGIN) -> PredecessorKey:
    statement = Succession(origin=origin, successor=new.public.to_base64(), issued_at=story.NOW)
    return PredecessorKey(public_key=old.public.to_base64(), succession=json.loads(succession_sign(statement, key=old)))


CHAIN = [step(old, new) for old, new in itertools.pairwise(KEYS)]


def test_chain_gives_its_keys_oldest_first() -> None:
    keys = keys_of(CHAIN, present=KEYS[-1].public, origin=story.ORIGIN)
    assert keys == tuple(key.public for key in KEYS)
    assert keys_of((), present=KEYS[0].public, origin=story.ORIGIN) == (KEYS[0].public,)


@pytest.mark.parametrize(
    ("chain", "error"),
    [
        (CHAIN[:-1], SuccessionInvalidError),  # doesn't reach the present key
        ([CHAIN[0], CHAIN[2]], SuccessionInvalidError),  # a step is missing
        ([CHAIN[1], CHAIN[0], CHAIN[2]], SuccessionInvalidError),
        ([*CHAIN, CHAIN[0]], SuccessionInvalidError),  # a key twice
        ([*CHAIN[:-1], step(KEYS[2], KEYS[3], origin="https://other.example")], SuccessionInvalidError),
        ([*CHAIN[:-1], CHAIN[-1].model_copy(update={"public_key": story.NODE.public.to_base64()})], SuccessionInvalidError),
        ([CHAIN[-1].model_copy(update={"public_key": story.NODE.public.to_base64()})], KeyWrongError),
        ([CHAIN[-1].model_copy(update={"public_key": "AAAA"})], KeyMalformedError),
    ],
)
def test_chain_with_a_fault_is_refused(chain: list[PredecessorKey], error: type[Exception]) -> None:
    with pytest.raises(error):
        keys_of(chain, present=KEYS[-1].public, origin=story.ORIGIN)


@pytest.mark.parametrize("payload", [b"{}", b'{"successor":"AAAA"}'])
def test_payload_of_another_form_is_refused(payload: bytes) -> None:
    envelope = json.loads(envelope_sign(payload, PAYLOAD_TYPE_SUCCESSION, KEYS[0]))
    with pytest.raises(SuccessionInvalidError, match="faults"):
        succession_open(envelope, key=KEYS[0].public, origin=story.ORIGIN)


def test_what_no_json_holds_is_refused() -> None:
    with pytest.raises(EnvelopeMalformedError, match="I-JSON"):
        succession_open({"payload": float("inf")}, key=KEYS[0].public, origin=story.ORIGIN)


@given(st.dictionaries(st.text(max_size=12), st.none() | st.text(max_size=12) | st.lists(st.text(max_size=12), max_size=2), max_size=3))
def test_any_object_is_refused_with_a_typed_error(envelope: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        succession_open(envelope, key=KEYS[0].public, origin=story.ORIGIN)
