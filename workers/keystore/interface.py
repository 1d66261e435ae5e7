"""What every storage of a node's key does."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Protocol

from workers.home_errors import KeyDamagedError
from workers.protocol.errors import KeyMalformedError
from workers.protocol.keys import PrivateKey
from workers.protocol.strict_base64 import base64_decode, base64_encode


class KeyStorageKind(StrEnum):
    """The choice of the contributor, as commands and `node.json` write it."""

    FILE = "file"
    SEALED = "sealed"
    KEYRING = "keyring"
    SYSTEMD = "systemd"


class KeyPlace(StrEnum):
    """Of the two keys that a storage may hold; the values are names of files and entries."""

    CURRENT = "key"
    PENDING = "key.next"
    """Made by a rotation that has not been finished."""


class KeyStorage(Protocol):
    """Keeps the keys of one node home. Holds no key in memory between calls; all errors are KeyStorageErrors."""

    kind: ClassVar[KeyStorageKind]

    def read(self, place: KeyPlace) -> PrivateKey:
        """The key. Raises KeyAbsentError if there is none."""

    def write(self, place: KeyPlace, key: PrivateKey) -> None:
        """Keep `key`, instead of what was there; after a crash there is the one or the other, whole."""

    def remove(self, place: KeyPlace) -> None:
        """Forget the key; nothing happens if there is none."""


def key_text(key: PrivateKey) -> str:
    """A key as storages of text hold it: base64 of its 32 secret bytes."""
    return base64_encode(key.raw)


def key_of_text(text: str, *, where: str) -> PrivateKey:
    """The key that `text` spells, spaces around it allowed. Raises KeyDamagedError, which doesn't repeat the text."""
    try:
        return PrivateKey.from_raw(base64_decode(text.strip()))
    except (ValueError, KeyMalformedError):
        # The text is the secret: it goes into no message, and no cause is chained that would carry it.
        raise KeyDamagedError(f"{where}: expected base64 of 32 bytes; found {len(text)} characters of something else.") from None
