"""How a coordinator gets another key without its hosts and readers joining anew: the old key signs who succeeds it.

A succession is a DSSE envelope, with a payload type of its own, signed by the key that ends, around the key that follows. The portal serves
the keys that it had, oldest first, each with its succession. Whoever pinned one of them follows it to the present key (`keys_of`):

1. Each key signed, for this portal, that the next one follows; the last names the present key. None comes twice.
2. A reader believes the present key if the one that it pinned is among them. What came before that one proves nothing to it.

Who holds an old key can sign another successor. So this is for planned changes, and for keys that may leak later: a host that has gone on
believes the old key no more. A key that is in a stranger's hands now can't be succeeded; its hosts must join anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import AwareDatetime, ValidationError

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES, PAYLOAD_TYPE_SUCCESSION, envelope_encode, envelope_open, envelope_sign
from workers.protocol.errors import SuccessionInvalidError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import Message
from workers.protocol.messages.joining import PREDECESSORS_MAX, PredecessorKey
from workers.protocol.plurals import counted

SUCCESSIONS_MAX: Final = PREDECESSORS_MAX
"""Of one portal. A yearly one lasts."""


class Succession(Message):
    """What the key that ends signs. `successor` is the base64 of the 32 public bytes."""

    succession_version: Literal[1] = 1
    origin: str
    successor: str
    issued_at: AwareDatetime


def succession_sign(succession: Succession, *, key: PrivateKey) -> bytes:
    """The envelope, as canonical JSON, by the key that ends."""
    return envelope_sign(canonical_json(succession.model_dump(mode="json")), PAYLOAD_TYPE_SUCCESSION, key)


def succession_open(envelope: Mapping[str, Any], *, key: PublicKey, origin: str) -> PublicKey:
    """The key that succeeds `key`.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, SuccessionInvalidError, KeyMalformedError.
    """
    payload = envelope_open(envelope_encode(envelope), payload_type=PAYLOAD_TYPE_SUCCESSION, key=key)
    try:
        succession = Succession.model_validate(json_parse(payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
    except ValidationError as error:
        raise SuccessionInvalidError(f"The payload of a succession has {counted(error.error_count(), 'fault')}.") from error
    if succession.origin != origin:
        raise SuccessionInvalidError(f"Expected a succession of the portal {origin}; found one of {succession.origin[:200]!r}.")
    return PublicKey.from_base64(succession.successor)


def keys_of(predecessors: Sequence[PredecessorKey], *, present: PublicKey, origin: str) -> tuple[PublicKey, ...]:
    """The keys of a coordinator, oldest first, `present` last, each verified to be named by the one before. Raises as succession_open."""
    keys = (*(PublicKey.from_base64(one.public_key) for one in predecessors), present)
    if len(set(keys)) != len(keys):
        raise SuccessionInvalidError("A key comes twice among those of the coordinator.")
    for one, key, following in zip(predecessors, keys, keys[1:], strict=False):
        successor = succession_open(one.succession, key=key, origin=origin)
        if successor != following:
            raise SuccessionInvalidError(f"The key {key.key_id} named {successor.key_id} as its successor; found {following.key_id}.")
    return keys
