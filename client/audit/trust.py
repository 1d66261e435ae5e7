"""Whose log it is: the coordinator's keys, from the pinned one on, and checkpoints that they signed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import ValidationError

from client.audit.errors import CoordinatorWrongError, SourceError
from client.audit.source import COORDINATOR, DOCUMENT_LIMIT_BYTES, LogSource
from workers.protocol.canonical import json_parse
from workers.protocol.errors import KeyWrongError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages import CoordinatorInfo
from workers.protocol.signed_note import Checkpoint, note_open
from workers.protocol.succession import keys_of


@dataclass(frozen=True)
class Coordinator:
    """`keys` are those that are believed, oldest first, the present one last: the pinned one and what it led to by signed successions.

    `origin` is the portal's address, `log` the name of its log in the first epoch.
    """

    origin: str
    log: str
    keys: tuple[PublicKey, ...]

    @property
    def key(self) -> PublicKey:
        """The present one."""
        return self.keys[-1]


def coordinator_read(source: LogSource, *, pinned: str | None) -> Coordinator:
    """What the source says of its coordinator; `pinned` is the key id to trust, None to believe the present one.

    Raises SourceError, CoordinatorWrongError.
    """
    try:
        document = json_parse(source.read(COORDINATOR, limit_bytes=DOCUMENT_LIMIT_BYTES), limit_bytes=DOCUMENT_LIMIT_BYTES)
        info = CoordinatorInfo.model_validate(document)
        keys = keys_of(info.predecessors, present=PublicKey.from_base64(info.public_key), origin=info.origin)
        log = f"{urlsplit(info.origin).netloc}/ledger"
    except (VerificationError, ValidationError, ValueError) as error:
        why = f"{error.error_count()} faults" if isinstance(error, ValidationError) else str(error)
        raise SourceError(f"{source.name} does not say who its coordinator is as protocol version 1 says it: {why}") from error
    if pinned is None:
        return Coordinator(info.origin, log, keys[-1:])
    ids = [key.key_id for key in keys]
    if pinned not in ids:
        raise CoordinatorWrongError(f"Expected the log of the coordinator {pinned}, or of a successor; this one's key is {ids[-1]}.")
    return Coordinator(info.origin, log, keys[ids.index(pinned) :])


def checkpoint_open(note: bytes, *, log: str, keys: tuple[PublicKey, ...]) -> Checkpoint:
    """The checkpoint of `log`, signed by one of `keys`. Raises VerificationError."""
    for key in keys:
        with suppress(KeyWrongError):
            checkpoint = Checkpoint.from_text(note_open(note, name=log, key=key))
            if checkpoint.origin != log:
                raise KeyWrongError(f"Expected a checkpoint of {log}; found one of {checkpoint.origin[:200]}.")
            return checkpoint
    raise KeyWrongError(f"The checkpoint has no signature for {log} by the coordinator's key {keys[-1].key_id}, nor by one that led to it.")
