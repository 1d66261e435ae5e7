"""Epochs of the ledger's log. A database that comes back from a backup may have lost leaves that were published; going on under the same
name would be a fork. So the log goes on under another name, and the coordinator signs what it continues.

The log of the first epoch is `<authority>/ledger`, of later ones `<authority>/ledger/<number>`. Readers keep the last checkpoint of each
epoch that they saw: what of it the next epoch does not continue is lost, and they can name it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES, PAYLOAD_TYPE_EPOCH, envelope_encode, envelope_open, envelope_sign
from workers.protocol.errors import KeyWrongError, VerificationError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import Message
from workers.protocol.plurals import counted
from workers.protocol.signed_note import NOTE_LIMIT_BYTES

EPOCHS_MAX: Final = 1000
REASON_CHARACTERS_MAX: Final = 1000

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")


class EpochInvalidError(VerificationError):
    """The statement is none about the epoch that it should begin."""

    code = "epoch_invalid"


class ContinuedLog(Message):
    """The log as it came back: `size` leaves, `root` in base64, of the log that was called `origin`."""

    origin: Annotated[str, StringConstraints(max_length=300)]
    size: int = Field(ge=0, le=2**53 - 1)
    root: Annotated[str, StringConstraints(max_length=44)]


class Epoch(Message):
    """What the coordinator signs. `published`: the newest checkpoint that it had published before, whole, if it still has that."""

    epoch_version: Literal[1] = 1
    number: int = Field(ge=2, le=EPOCHS_MAX)
    origin: Annotated[str, StringConstraints(max_length=300)]
    continues: ContinuedLog
    published: Annotated[str, StringConstraints(max_length=NOTE_LIMIT_BYTES)] | None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=REASON_CHARACTERS_MAX)]
    began_at: AwareDatetime


def log_origin_of(authority: str, number: int) -> str:
    """The name of the log in an epoch, 1 being the first."""
    return f"{authority}/ledger" if number == 1 else f"{authority}/ledger/{number}"


def epoch_number_of(authority: str, origin: str) -> int | None:
    """The epoch in which the log of this portal has this name; None where it never does."""
    if origin == log_origin_of(authority, 1):
        return 1
    digits = origin.removeprefix(f"{authority}/ledger/")
    is_number = digits != origin and _NUMBER.fullmatch(digits) is not None and 2 <= int(digits) <= EPOCHS_MAX
    return int(digits) if is_number else None


def epoch_sign(epoch: Epoch, *, key: PrivateKey) -> bytes:
    """The envelope, as canonical JSON."""
    return envelope_sign(canonical_json(epoch.model_dump(mode="json")), PAYLOAD_TYPE_EPOCH, key)


def epoch_open(envelope: Mapping[str, Any], *, key: PublicKey) -> Epoch:
    """The statement that `key` signed.

    Raises EnvelopeMalformedError, EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError, EpochInvalidError.
    """
    payload = envelope_open(envelope_encode(envelope), payload_type=PAYLOAD_TYPE_EPOCH, key=key)
    try:
        return Epoch.model_validate(json_parse(payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
    except ValidationError as error:
        raise EpochInvalidError(f"The payload of an epoch's statement has {counted(error.error_count(), 'fault')}.") from error


def epochs_open(envelopes: Sequence[Mapping[str, Any]], *, keys: Collection[PublicKey], authority: str) -> tuple[Epoch, ...]:
    """All epochs of a portal's log after the first, each signed by one of the coordinator's `keys`, and continuing an earlier one.

    Numbers rise and may skip: an epoch whose own statement was lost with the database is not in the list. Raises as epoch_open.
    """
    found: list[Epoch] = []
    for envelope in envelopes:
        epoch = _open_by_any(envelope, keys)
        before = found[-1].number if found else 1
        continued = epoch_number_of(authority, epoch.continues.origin)
        if epoch.origin != log_origin_of(authority, epoch.number):
            raise EpochInvalidError(
                f"Expected epoch {epoch.number} to be called {log_origin_of(authority, epoch.number)}; found {epoch.origin}."
            )
        if epoch.number <= before or continued != before:
            raise EpochInvalidError(
                f"Expected an epoch after {before} that continues it; found {epoch.number}, continuing {epoch.continues.origin}."
            )
        found.append(epoch)
    return tuple(found)


def _open_by_any(envelope: Mapping[str, Any], keys: Collection[PublicKey]) -> Epoch:
    for key in keys:
        with suppress(KeyWrongError):
            return epoch_open(envelope, key=key)
    raise KeyWrongError("Expected an epoch's statement by a key of the coordinator; this one is by another.")
