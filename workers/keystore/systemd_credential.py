"""`systemd`: a credential that systemd decrypts and hands to the service alone (`LoadCredentialEncrypted=nexa-key:…`, systemd.exec(5)).

Its content is what the file `key` would hold. Systemd gives it to the service only, in memory, so nothing here can write it: the key is
made elsewhere (docs/host-keys.md shows how), and a rotation goes through another storage.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from workers.home_errors import KeyAbsentError, KeyStorageUnavailableError
from workers.keystore.interface import KeyPlace, KeyStorageKind, key_of_text
from workers.keystore.secret_file import secret_read
from workers.protocol.keys import PrivateKey

CREDENTIAL: Final = "nexa-key"


class SystemdCredentialStorage:
    """The file `nexa-key` in `folder` ($CREDENTIALS_DIRECTORY). Read only; a pending key is never there."""

    kind: ClassVar[KeyStorageKind] = KeyStorageKind.SYSTEMD

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, place: KeyPlace) -> PrivateKey:
        if place is KeyPlace.PENDING:
            raise KeyAbsentError("A systemd credential holds no pending key.")
        if self._folder is None:
            raise KeyStorageUnavailableError(
                f"The key is a systemd credential, and systemd handed none to this process: CREDENTIALS_DIRECTORY is not set. Start the "
                f"worker as the service, with LoadCredentialEncrypted={CREDENTIAL}:…"
            )
        path = self._folder / CREDENTIAL
        # Systemd's folder is the service's alone; an access list that it sets there shows as a mode for the group.
        return key_of_text(secret_read(path, private=False), where=str(path))

    def write(self, place: KeyPlace, key: PrivateKey) -> None:
        raise KeyStorageUnavailableError(
            "A systemd credential can't be written from here: choose the storage `file`, then encrypt it with `systemd-creds` and run "
            "`nexa key protect systemd` (docs/host-keys.md)."
        )

    def remove(self, place: KeyPlace) -> None:
        """Nothing to do: the credential belongs to systemd, and its encrypted file to the operator."""
