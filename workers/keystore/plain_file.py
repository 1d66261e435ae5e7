"""`file`: base64 of the key in a file of the node home, mode 0600."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from workers.keystore.interface import KeyPlace, KeyStorageKind, key_of_text, key_text
from workers.keystore.secret_file import secret_read, secret_write
from workers.protocol.keys import PrivateKey


class PlainFileStorage:
    """Files `key` and `key.next` in `folder`. Does not encrypt: whoever can read the file has the key."""

    kind: ClassVar[KeyStorageKind] = KeyStorageKind.FILE

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, place: KeyPlace) -> PrivateKey:
        path = self._folder / place
        return key_of_text(secret_read(path), where=str(path))

    def write(self, place: KeyPlace, key: PrivateKey) -> None:
        secret_write(self._folder / place, key_text(key) + "\n")

    def remove(self, place: KeyPlace) -> None:
        (self._folder / place).unlink(missing_ok=True)
