"""A node's change of keys: the old key signs the request (RFC 9421), and with it comes this proof that the sender holds the new one.

The proof is a DSSE envelope signed by the new key, with a payload type of its own. It names portal, node and old key, so it proves nothing
for another rotation, and nobody can register a key that they saw somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import Digest
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES, PAYLOAD_TYPE_KEY_ROTATION, envelope_encode, envelope_open, envelope_sign
from workers.protocol.errors import KeyRotationInvalidError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import Message
from workers.protocol.plurals import counted


class KeyRotation(Message):
    """What the new key signs."""

    rotation_version: Literal[1] = 1
    origin: str
    node_id: UUID
    old_key_id: Digest


def rotation_prove(rotation: KeyRotation, *, new_key: PrivateKey) -> dict[str, Any]:
    """The envelope, as the object that goes into the request; the same arguments give the same one."""
    data = envelope_sign(canonical_json(rotation.model_dump(mode="json")), PAYLOAD_TYPE_KEY_ROTATION, new_key)
    return dict(json_parse(data, limit_bytes=ENVELOPE_LIMIT_BYTES))


def rotation_verify(proof: Mapping[str, Any], *, new_key: PublicKey, expected: KeyRotation) -> None:
    """Return if the holder of `new_key` asks for exactly this rotation.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, KeyRotationInvalidError.
    """
    payload = envelope_open(envelope_encode(proof), payload_type=PAYLOAD_TYPE_KEY_ROTATION, key=new_key)
    try:
        found = KeyRotation.model_validate(json_parse(payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
    except ValidationError as error:
        raise KeyRotationInvalidError(
            f"The proof's payload has {counted(error.error_count(), 'fault')}; docs/PROTOCOL.md shows its form."
        ) from error
    for name in KeyRotation.model_fields:
        wanted, stated = getattr(expected, name), getattr(found, name)
        if wanted != stated:
            raise KeyRotationInvalidError(f"The proof is of another rotation: expected {name} {wanted}; found {stated}.")
