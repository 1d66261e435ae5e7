"""From the choice in `node.json` to the storage that it names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import NAMESPACE_URL, uuid5

from workers.keystore.interface import KeyStorage, KeyStorageKind
from workers.keystore.os_keyring import OsKeyringStorage
from workers.keystore.passphrase import passphrase_source
from workers.keystore.plain_file import PlainFileStorage
from workers.keystore.sealed_file import SealedFileStorage
from workers.keystore.systemd_credential import SystemdCredentialStorage


@dataclass(frozen=True)
class KeyStorageChoice:
    """Which storage; for a sealed key the file with its passphrase (None: it is asked for), for a keyring the name of the entry."""

    kind: KeyStorageKind = KeyStorageKind.FILE
    passphrase_file: Path | None = None
    entry: str = ""

    @classmethod
    def of(cls, kind: KeyStorageKind, *, folder: Path, passphrase_file: Path | None = None) -> Self:
        """The choice for the home in `folder`; the same arguments give the same entry, so that a join that is tried again finds its key."""
        entry = str(uuid5(NAMESPACE_URL, folder.as_uri())) if kind is KeyStorageKind.KEYRING else ""
        return cls(kind, passphrase_file and passphrase_file.absolute(), entry)


def storage_open(choice: KeyStorageChoice, *, folder: Path, new: bool = False) -> KeyStorage:
    """The storage of the home in `folder`. `new`: keys are about to be put there, so a passphrase is chosen rather than asked for.

    Raises KeyStorageUnavailableError.
    """
    match choice.kind:
        case KeyStorageKind.FILE:
            return PlainFileStorage(folder)
        case KeyStorageKind.SEALED:
            return SealedFileStorage(folder, passphrase_source(choice.passphrase_file, new=new))
        case KeyStorageKind.KEYRING:
            return OsKeyringStorage(choice.entry)
        case KeyStorageKind.SYSTEMD:
            credentials = os.environ.get("CREDENTIALS_DIRECTORY")
            return SystemdCredentialStorage(Path(credentials) if credentials else None)
