"""What a backup holds: a JSON document within a DSSE envelope that the coordinator signed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nexaportal.backup.errors import BackupDamagedError
from workers.protocol.digests import digest_stream
from workers.protocol.dsse import envelope_open, envelope_sign
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey, PublicKey

PAYLOAD_TYPE: Final = "application/vnd.nexapod.backup+json"
MANIFEST: Final = "manifest.json"
DATABASE: Final = "database.dump"
BLOBS: Final = "blobs.txt"
BLOBS_LOST: Final = "blobs-lost.txt"
"""Only where there are some."""
BLOBS_FOLDER: Final = "blobs"
"""Beside the backups: the bytes, for all of them."""
COORDINATOR_KEY: Final = "keys/coordinator.key"
PREVIOUS_KEY: Final = "keys/coordinator-previous.key"
SECRET: Final = "keys/django.secret"  # noqa: S105  a file's name


_NAME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z")
Report = Callable[[str], None]
"""Hears what was done, a sentence at a time."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackedUpFile(_Message):
    """A file of the backup by its name within it."""

    name: str
    size_bytes: int
    digest: str


class BackedUpLog(_Message):
    """The newest checkpoint that the dump has."""

    origin: str
    size: int


class Manifest(_Message):
    """`migrations`: those that the dump had seen, as `app.name`. `blobs`, `blob_bytes`: what blobs.txt lists."""

    version: Literal[1]
    made_at: datetime
    software: str
    origin: str
    postgres: int
    """Its server_version_num."""
    log: BackedUpLog | None
    coordinator_key_id: str
    migrations: tuple[str, ...]
    blobs: int
    blob_bytes: int
    files: tuple[BackedUpFile, ...]


def manifest_sign(manifest: Manifest, *, key: PrivateKey) -> bytes:
    """The signed document."""
    return envelope_sign(manifest.model_dump_json().encode(), payload_type=PAYLOAD_TYPE, key=key)


def manifest_read(folder: Path, *, key: PublicKey) -> Manifest:
    """The manifest of a backup, if `key` signed it. Raises BackupDamagedError."""
    try:
        payload = envelope_open((folder / MANIFEST).read_bytes(), payload_type=PAYLOAD_TYPE, key=key)
        return Manifest.model_validate_json(payload)
    except (OSError, VerificationError, ValidationError) as error:
        raise BackupDamagedError(f"Expected a manifest signed by {key.key_id} in {folder}: {error} Choose another backup.") from error


def backed_up(folder: Path, name: str) -> BackedUpFile:
    """A file of the backup as it is now."""
    path = folder / name
    with path.open("rb") as file:
        digest, size_bytes = digest_stream(file)
    return BackedUpFile(name=name, size_bytes=size_bytes, digest=digest)


def files_check(folder: Path, manifest: Manifest) -> None:
    """Raises BackupDamagedError unless each file is there and as it was."""
    for expected in manifest.files:
        try:
            found = backed_up(folder, expected.name)
        except OSError as error:
            raise BackupDamagedError(f"Expected {expected.name} in {folder}: {error.strerror}. Choose another backup.") from error
        if found != expected:
            raise BackupDamagedError(
                f"Expected {expected.name} with the digest {expected.digest}; found {found.digest}. Choose another backup."
            )


def backup_name(now: datetime) -> str:
    """The folder of a backup that is made now; names sort as times do."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def is_backup_name(name: str) -> bool:
    """Whether a folder is called as `backup_name` calls one."""
    return _NAME.fullmatch(name) is not None


def blobs_listed(folder: Path) -> list[tuple[str, int]]:
    """(digest, size) of each blob that the backup needs."""
    lines = (folder / BLOBS).read_text(encoding="ascii").splitlines()
    return [(digest, int(size)) for digest, _, size in (line.partition(" ") for line in lines)]


def blob_path(root: Path, digest: str) -> Path:
    """Where a folder of backups has the bytes of a blob."""
    digest_hex = digest.removeprefix("sha256:")
    return root / BLOBS_FOLDER / digest_hex[:2] / digest_hex
