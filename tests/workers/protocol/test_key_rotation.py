"""The proof of a rotation: what it binds, and what is refused."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.protocol import vector_story as story
from workers.protocol.canonical import canonical_json
from workers.protocol.dsse import PAYLOAD_TYPE_KEY_ROTATION, PAYLOAD_TYPE_ORDER, envelope_sign
from workers.protocol.errors import (
    EnvelopeMalformedError,
    EnvelopeTypeWrongError,
    KeyRotationInvalidError,
    KeyWrongError,
    SignatureInvalidError,
    VerificationError,
)
from workers.protocol.key_rotation import KeyRotation, rotation_prove, rotation_verify

NEW = story.NEXT_NODE
ROTATION = KeyRotation(origin=story.ORIGIN, node_id=story.NODE_ID, old_key_id=story.NODE.public.key_id)


def check(proof: dict[str, Any]) -> None:
    rotation_verify(proof, new_key=NEW.public, expected=ROTATION)


def test_proof_verifies_and_is_the_same_each_time() -> None:
    proof = rotation_prove(ROTATION, new_key=NEW)
    check(proof)
    assert proof == rotation_prove(ROTATION, new_key=NEW)


@pytest.mark.parametrize(
    ("name", "value"), [("origin", "https://other.example"), ("node_id", uuid4()), ("old_key_id", story.COORDINATOR.public.key_id)]
)
def test_proof_of_another_rotation_is_refused(name: str, value: Any) -> None:
    with pytest.raises(KeyRotationInvalidError, match=name):
        check(rotation_prove(ROTATION.model_copy(update={name: value}), new_key=NEW))


def test_proof_by_another_key_is_refused() -> None:
    with pytest.raises(KeyWrongError):
        check(rotation_prove(ROTATION, new_key=story.NODE))


def test_signature_over_something_else_is_refused() -> None:
    proof = rotation_prove(ROTATION, new_key=NEW)
    other = rotation_prove(ROTATION.model_copy(update={"origin": "https://other.example"}), new_key=NEW)
    with pytest.raises(SignatureInvalidError):
        check({**proof, "signatures": other["signatures"]})


def test_envelope_of_another_type_and_payload_of_another_form_are_refused() -> None:
    payload = canonical_json(ROTATION.model_dump(mode="json"))
    with pytest.raises(EnvelopeTypeWrongError):
        check(json.loads(envelope_sign(payload, PAYLOAD_TYPE_ORDER, NEW)))
    with pytest.raises(KeyRotationInvalidError, match="faults"):
        check(json.loads(envelope_sign(b'{"origin":1}', PAYLOAD_TYPE_KEY_ROTATION, NEW)))
    with pytest.raises(EnvelopeMalformedError, match="I-JSON"):
        check({"payload": float("nan")})


@given(st.dictionaries(st.text(max_size=12), st.none() | st.text(max_size=12) | st.lists(st.text(max_size=12), max_size=2), max_size=3))
def test_any_object_is_refused_with_a_typed_error(proof: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        check(proof)
