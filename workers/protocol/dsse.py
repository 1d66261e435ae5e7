"""DSSE envelopes: a payload, its type, and one Ed25519 signature over both.

Follows DSSE 1.0 (github.com/secure-systems-lab/dsse, `protocol.md` and `envelope.md`), so any DSSE verifier can check
an order or a receipt. What we accept is narrower than DSSE: exactly one signature, standard base64 in its one spelling,
a key id, no further members. Nothing unsigned can then ride along.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_parse
from workers.protocol.errors import (
    DigestMalformedError,
    EnvelopeMalformedError,
    EnvelopeTypeWrongError,
    JsonMalformedError,
    JsonTooLargeError,
    KeyWrongError,
    NotCanonicalError,
)
from workers.protocol.keys import SIGNATURE_BYTES, PrivateKey, PublicKey
from workers.protocol.strict_base64 import base64_decode, base64_encode

PAYLOAD_TYPE_ORDER = "application/vnd.nexapod.order+json"
PAYLOAD_TYPE_STATEMENT = "application/vnd.in-toto+json"
PAYLOAD_TYPE_KEY_ROTATION = "application/vnd.nexapod.key-rotation+json"
PAYLOAD_TYPE_SUCCESSION = "application/vnd.nexapod.succession+json"
PAYLOAD_TYPE_EPOCH = "application/vnd.nexapod.epoch+json"

ENVELOPE_LIMIT_BYTES = 4 * 1024 * 1024


def envelope_encode(envelope: Mapping[str, Any]) -> bytes:
    """The canonical JSON of an envelope that came as a part of a message. Raises EnvelopeMalformedError."""
    try:
        return canonical_json(dict(envelope))
    except NotCanonicalError as error:
        raise EnvelopeMalformedError(f"An envelope must be I-JSON: {error}") from error


@dataclass(frozen=True)
class Envelope:
    """The parts of an envelope, as `envelope_read` found them: UNVERIFIED until `opened`. The key id is a hint for looking up a key."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    def encode(self) -> bytes:
        """The envelope as canonical JSON: of what is in it, only the type may need an escape."""
        kind = json.dumps(self.payload_type, ensure_ascii=False).encode()
        payload, signature = base64.b64encode(self.payload), base64.b64encode(self.signature)
        return b'{"payload":"%b","payloadType":%b,"signatures":[{"keyid":"%b","sig":"%b"}]}' % (
            payload,
            kind,
            self.key_id.encode(),
            signature,
        )

    def opened(self, *, payload_type: str, key: PublicKey) -> bytes:
        """The payload, after the check that `key` signed it as a payload of this type.

        Raises EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError. Says nothing about what is in the payload.
        """
        if self.payload_type != payload_type:
            raise EnvelopeTypeWrongError(f"Expected an envelope around {payload_type!r}; found one around {self.payload_type[:120]!r}.")
        if self.key_id != key.key_id:
            raise KeyWrongError(f"Expected an envelope signed by {key.key_id}; this one names {self.key_id}.")
        key.verify(self.signature, pae(self.payload, self.payload_type))
        return self.payload


def pae(payload: bytes, payload_type: str) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding.

    `DSSEv1`, then type and payload, each after its length in bytes: no two pairs share an encoding.
    """
    type_bytes = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(type_bytes), type_bytes, len(payload), payload)


def envelope_sign(payload: bytes, payload_type: str, key: PrivateKey) -> bytes:
    """The envelope around `payload`, signed by `key`, as canonical JSON; the same arguments give the same bytes."""
    return canonical_json(
        {
            "payload": base64_encode(payload),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key.public.key_id, "sig": base64_encode(key.sign(pae(payload, payload_type)))},
            ],
        }
    )


def envelope_open(envelope: bytes, *, payload_type: str, key: PublicKey, limit_bytes: int = ENVELOPE_LIMIT_BYTES) -> bytes:
    """The payload, after the check that `key` signed it as a payload of this type.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError. Says nothing about what
    is in the payload.
    """
    return _envelope_parse(envelope, limit_bytes).opened(payload_type=payload_type, key=key)


def envelope_key_id(envelope: bytes, *, limit_bytes: int = ENVELOPE_LIMIT_BYTES) -> str:
    """The key id that the envelope names: an UNVERIFIED hint for looking up the key to open it with.

    Raises EnvelopeMalformedError.
    """
    return _envelope_parse(envelope, limit_bytes).key_id


def envelope_read(document: Any) -> Envelope:
    """The parts of an envelope that was parsed already, with the message around it. Raises EnvelopeMalformedError."""
    outer = _members(document, "An envelope", {"payload", "payloadType", "signatures"})
    signatures = outer["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise EnvelopeMalformedError("An envelope must have a list of exactly one signature.")
    inner = _members(signatures[0], "A signature", {"keyid", "sig"})
    key_id = _text(inner, "keyid")
    try:
        digest_parse(key_id)
    except DigestMalformedError as error:
        raise EnvelopeMalformedError(f"The envelope's keyid is not a key id. {error}") from error
    signature = _decoded(inner, "sig")
    if len(signature) != SIGNATURE_BYTES:
        raise EnvelopeMalformedError(f"A signature is {SIGNATURE_BYTES} bytes; found {len(signature)}.")
    return Envelope(_decoded(outer, "payload"), _text(outer, "payloadType"), key_id, signature)


def _envelope_parse(data: bytes, limit_bytes: int) -> Envelope:
    try:
        document = json_parse(data, limit_bytes=limit_bytes)
    except (JsonMalformedError, JsonTooLargeError) as error:
        raise EnvelopeMalformedError(f"An envelope is a JSON object: {error}") from error
    return envelope_read(document)


def _members(value: Any, what: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != names:
        raise EnvelopeMalformedError(f"{what} must be an object with the members {sorted(names)} and no others.")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        raise EnvelopeMalformedError(f"The envelope's {name} must be a string.")
    return value


def _decoded(members: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64_decode(_text(members, name))
    except ValueError as error:
        raise EnvelopeMalformedError(f"The envelope's {name}: {error}.") from error
