"""Whose log it is: the coordinator's keys, from the pinned one on, and checkpoints that they signed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import ValidationError

from client.audit.errors import CoordinatorWrongError, SourceError
from client.audit.source import COORDINATOR, DOCUMENT_LIMIT_BYTES, LogSource
from client.settings import authority_of
from workers.protocol.canonical import json_parse
from workers.protocol.errors import CheckpointMalformedError, KeyWrongError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.joining import CoordinatorInfo
from workers.protocol.plurals import counted
from workers.protocol.signed_note import Checkpoint, note_open
from workers.protocol.succession import keys_of


@dataclass(frozen=True)
class Coordinator:
    """`keys`: oldest first, the present one last, each naming the next. `authority` is host and port of its portal, `name` the same as its
    log spells it."""

    authority: str
    name: str
    keys: tuple[PublicKey, ...]

    @property
    def key(self) -> PublicKey:
        """The present one."""
        return self.keys[-1]

    def believed(self, pinned: str | None) -> tuple[PublicKey, ...]:
        """The keys that are believed: from `pinned`, a key id, on; None believes the present one only.

        Raises CoordinatorWrongError.
        """
        ids = [key.key_id for key in self.keys]
        if pinned is not None and pinned not in ids:
            raise CoordinatorWrongError(f"Expected the log of the coordinator {pinned}, or of a successor; this one's key is {ids[-1]}.")
        return self.keys[-1:] if pinned is None else self.keys[ids.index(pinned) :]


def coordinator_read(source: LogSource) -> Coordinator:
    """What the source says of its coordinator, none of it believed yet. Raises SourceError, CoordinatorWrongError."""
    try:
        document = json_parse(source.read(COORDINATOR, limit_bytes=DOCUMENT_LIMIT_BYTES), limit_bytes=DOCUMENT_LIMIT_BYTES)
        info = CoordinatorInfo.model_validate(document)
        keys = keys_of(info.predecessors, present=PublicKey.from_base64(info.public_key), origin=info.origin)
        authority = authority_of(info.origin)
    except (VerificationError, ValidationError, ValueError) as error:
        why = f"{counted(error.error_count(), 'fault')}" if isinstance(error, ValidationError) else str(error)
        raise SourceError(f"{source.name} does not say who its coordinator is as protocol version 1 says it: {why}") from error
    # Under another name it would have another last run, and could show another history.
    if source.authority is not None and authority != source.authority:
        raise CoordinatorWrongError(f"Expected the portal {source.name}; this one says that it is {info.origin[:200]}. Audit that address.")
    return Coordinator(authority, urlsplit(info.origin).netloc, keys)


def checkpoint_open(note: bytes, *, log: str, keys: tuple[PublicKey, ...]) -> tuple[Checkpoint, PublicKey]:
    """The checkpoint of `log`, signed by one of `keys`, and which; the newest of them if several did. Raises VerificationError."""
    for key in reversed(keys):
        with suppress(KeyWrongError):
            checkpoint = Checkpoint.from_text(note_open(note, name=log, key=key))
            if checkpoint.origin != log:
                raise CheckpointMalformedError(f"Expected a checkpoint of {log}; found one of {checkpoint.origin[:200]}.")
            return checkpoint, key
    raise KeyWrongError(f"The checkpoint has no signature for {log} by the coordinator's key {keys[-1].key_id}, nor by one that led to it.")
