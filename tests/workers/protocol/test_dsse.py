"""DSSE envelopes: sign, open, and what is refused."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey

from workers.protocol.dsse import (
    PAYLOAD_TYPE_ORDER,
    PAYLOAD_TYPE_STATEMENT,
    envelope_key_id,
    envelope_open,
    envelope_sign,
    pae,
)
from workers.protocol.errors import (
    EnvelopeMalformedError,
    EnvelopeTypeWrongError,
    KeyWrongError,
    SignatureInvalidError,
    VerificationError,
)
from workers.protocol.keys import PrivateKey, PublicKey

KEY = PrivateKey.from_raw(bytes(range(32)))
PAYLOAD = b'{"replica":"r1"}'


def signed() -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, KEY))
    return envelope


def opened(envelope: bytes) -> bytes:
    return envelope_open(envelope, payload_type=PAYLOAD_TYPE_ORDER, key=KEY.public)


def other_key(key: PublicKey) -> SSlibKey:
    return SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.raw.hex()})


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    # The example in protocol.md of the specification.
    assert pae(b"hello world", "http://example.com/HelloWorld") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_open_returns_what_was_signed(payload: bytes, payload_type: str) -> None:
    payload_type = payload_type.replace("\0", "")
    envelope = envelope_sign(payload, payload_type, KEY)
    assert envelope_open(envelope, payload_type=payload_type, key=KEY.public) == payload
    assert envelope_key_id(envelope) == KEY.public.key_id


def test_signing_twice_gives_the_same_bytes() -> None:
    assert envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, KEY) == envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, KEY)


def test_securesystemslib_verifies_our_envelope_and_refuses_it_when_changed() -> None:
    document = signed()
    Envelope.from_dict(document).verify([other_key(KEY.public)], 1)
    document = signed()
    document["payload"] = base64.b64encode(PAYLOAD + b" ").decode()
    with pytest.raises(OtherVerificationError):
        Envelope.from_dict(document).verify([other_key(KEY.public)], 1)


def test_an_envelope_of_securesystemslib_opens_here() -> None:
    signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(KEY.raw), other_key(KEY.public))
    envelope = Envelope(payload=PAYLOAD, payload_type=PAYLOAD_TYPE_ORDER, signatures={})
    envelope.sign(signer)
    assert opened(json.dumps(envelope.to_dict()).encode()) == PAYLOAD


@given(st.data())
def test_an_envelope_with_one_byte_changed_yields_no_other_payload(draw: st.DataObject) -> None:
    envelope = bytearray(envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, KEY))
    position = draw.draw(st.integers(0, len(envelope) - 1))
    envelope[position] = draw.draw(st.integers(0, 255))
    try:
        payload = opened(bytes(envelope))
    except VerificationError:
        return
    assert payload == PAYLOAD


def test_another_payload_under_the_same_signature_is_refused() -> None:
    document = signed()
    document["payload"] = base64.b64encode(b'{"replica":"r2"}').decode()
    with pytest.raises(SignatureInvalidError):
        opened(json.dumps(document).encode())


def test_a_payload_does_not_pass_as_one_of_another_type() -> None:
    envelope = envelope_sign(PAYLOAD, PAYLOAD_TYPE_STATEMENT, KEY)
    with pytest.raises(EnvelopeTypeWrongError):
        opened(envelope)
    relabelled = json.loads(envelope) | {"payloadType": PAYLOAD_TYPE_ORDER}
    with pytest.raises(SignatureInvalidError):
        opened(json.dumps(relabelled).encode())


def test_an_envelope_of_another_key_is_refused_whatever_key_it_names() -> None:
    other = PrivateKey.generate()
    envelope = envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, other)
    with pytest.raises(KeyWrongError):
        opened(envelope)
    document = json.loads(envelope)
    document["signatures"][0]["keyid"] = KEY.public.key_id
    with pytest.raises(SignatureInvalidError):
        opened(json.dumps(document).encode())


def _changed(**changes: Any) -> bytes:
    return json.dumps(signed() | changes).encode()


def _signature_changed(**changes: Any) -> bytes:
    return _changed(signatures=[signed()["signatures"][0] | changes])


MALFORMED = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    b'{"payload":"","payload":""}',
    json.dumps({name: value for name, value in signed().items() if name != "payloadType"}).encode(),
    _changed(extra=1),
    _changed(payload=None),
    _changed(payload="e30"),
    _changed(payload="e3-_"),
    _changed(payload="e31="),
    _changed(payloadType=7),
    _changed(signatures=[]),
    _changed(signatures={}),
    _changed(signatures=signed()["signatures"] * 2),
    _changed(signatures=["x"]),
    _signature_changed(extra=1),
    _signature_changed(keyid=None),
    _signature_changed(keyid="me"),
    _signature_changed(sig=1),
    _signature_changed(sig=""),
    _signature_changed(sig="AAAA"),
    _signature_changed(sig=signed()["signatures"][0]["sig"] + "\n"),
]


@pytest.mark.parametrize("envelope", MALFORMED, ids=lambda data: repr(data[:40]))
def test_a_malformed_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(EnvelopeMalformedError):
        opened(envelope)
    with pytest.raises(EnvelopeMalformedError):
        envelope_key_id(envelope)


def test_an_envelope_over_the_limit_is_refused() -> None:
    envelope = envelope_sign(PAYLOAD, PAYLOAD_TYPE_ORDER, KEY)
    with pytest.raises(EnvelopeMalformedError):
        envelope_open(envelope, payload_type=PAYLOAD_TYPE_ORDER, key=KEY.public, limit_bytes=len(envelope) - 1)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), inner, max_size=5)
    ),
)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_with_the_documented_error(envelope: bytes) -> None:
    with pytest.raises(EnvelopeMalformedError):
        envelope_key_id(envelope)
