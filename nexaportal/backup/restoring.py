"""Restores a backup onto an empty database, blob store and log folder.

1. Everything is checked before anything is written: the manifest's signature, each file's digest, each blob's digest, that the dump can be
   read, that portal and release are the right ones, and that nothing is there which would be lost.
2. Then keys, blobs, database, in that order: a restore that was killed has an empty database, and is run again.
3. The log goes on under another name (ledger/epochs.py): what was published after the backup can't be taken back. Then the books are
   compared with the log, as `manage.py ledger_verify` does.

An older release's database is migrated. Roles get their rights; passwords of roles are the server's, and in no backup. Nobody is signed in
afterwards: who was locked out since the backup would be in again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from jobs.blobs import blob_store
from jobs.blobs.collection import SHARDS
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import CoordinatorKeyMissingError, coordinator_private_key, coordinator_public_key, key_file_read
from ledger.epochs import epoch_begin
from ledger.models import Epoch
from ledger.publication import published_epoch
from ledger.verification import LedgerVerification
from nexaportal.backup.errors import BackupDamagedError, BackupForeignError, RestoreTargetError
from nexaportal.backup.manifest import (
    COORDINATOR_KEY,
    DATABASE,
    PREVIOUS_KEY,
    SECRET,
    Manifest,
    Report,
    blob_path,
    blobs_listed,
    files_check,
    manifest_read,
)
from nexaportal.backup.postgres import database_restore, dump_check, tools_check
from workers.protocol.digests import digest_stream

_NAMED: Final = 5
_ENDING_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Restored:
    """`faults`: what ledger_verify found; none in a sound restore."""

    manifest: Manifest
    epoch: Epoch
    faults: list[str]


def backup_restore(*, folder: Path, reason: str, replace: bool, report: Report, without_damaged_blobs: bool = False) -> Restored:
    """Restores the backup in `folder`. `reason` stands in the public log. `replace`: what is in the database is given up.

    `without_damaged_blobs`: those whose copies have rotted are named and left out. Nobody is signed in afterwards.

    Raises BackupError, CoordinatorKeyMissingError, OSError, and what ledger/epochs.py raises.
    """
    _pool_leave()
    tools_check()
    manifest, damaged = _checked(folder)
    if damaged and not without_damaged_blobs:
        raise _damaged_error(manifest, damaged)
    made = f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    report(f"The backup of {made} is whole: {manifest.blobs} blobs beside the dump, {len(manifest.files)} files.")
    _target_check(folder, replace=replace)
    for name, path in _keys(folder).items():
        _key_place(folder / name, path)
    for digest in sorted({digest for digest, _ in blobs_listed(folder)}.difference(damaged)):
        _blob_place(blob_path(folder.parent, digest), digest)
    report("Keys and blobs are in their places.")
    for digest in damaged:
        report(f"Not restored, as its copy is missing or damaged: {digest}")
    _published_place(folder)
    if replace:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    database_restore(folder / DATABASE)
    call_command("migrate", interactive=False, verbosity=0)
    call_command("database_roles")
    Session.objects.all().delete()  # who signed out or was locked out since the backup would be in again
    UserSession.objects.all().delete()
    report("The database is restored, migrated, and its roles have their rights.")
    epoch = epoch_begin(reason=reason)
    checkpoint_publish()
    return Restored(manifest, epoch, [str(fault) for fault in LedgerVerification().faults()])


def backup_check(*, folder: Path) -> Manifest:
    """Rule 1, as far as it is about the backup: the manifest of one that is whole, and this portal's. Raises BackupError."""
    manifest, damaged = _checked(folder)
    if damaged:
        raise _damaged_error(manifest, damaged)
    return manifest


def _checked(folder: Path) -> tuple[Manifest, list[str]]:
    """The manifest, and the blobs whose copies are not whole. Raises BackupError for all else."""
    try:
        key = coordinator_public_key()
    except CoordinatorKeyMissingError:
        key = key_file_read(folder / COORDINATOR_KEY).public
    manifest = manifest_read(folder, key=key)
    if manifest.origin != settings.NEXA_ORIGIN:
        raise BackupForeignError(
            f"The backup is of {manifest.origin}; NEXA_ORIGIN is {settings.NEXA_ORIGIN}. Hosts, sign-ins and the ledger know the portal "
            "by its address: restore it under the same one."
        )
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    if unknown := sorted(set(manifest.migrations) - known):
        raise BackupForeignError(
            f"The backup is of release {manifest.software}, whose database has {', '.join(unknown[:_NAMED])}; this release doesn't know "
            "them. Restore with that release or a later one."
        )
    files_check(folder, manifest)
    if (folder / SECRET).read_text(encoding="utf-8") != settings.SECRET_KEY:
        raise BackupForeignError(
            f"NEXA_SECRET_KEY is not the one of the backup: second factors and webhooks could not be read. Have NEXA_SECRET_KEY_FILE "
            f"name a copy of {folder / SECRET}, then run this again."
        )
    dump_check(folder / DATABASE)
    damaged = [digest for digest, size_bytes in blobs_listed(folder) if not _is_whole(blob_path(folder.parent, digest), digest, size_bytes)]
    return manifest, damaged


def _damaged_error(manifest: Manifest, damaged: Sequence[str]) -> BackupDamagedError:
    return BackupDamagedError(
        f"Expected {manifest.blobs} blobs beside the backup; {len(damaged)} are missing or damaged: {', '.join(damaged[:_NAMED])}. "
        "Bring these files back, choose another backup, or restore it --without-damaged-blobs."
    )


def _is_whole(path: Path, digest: str, size_bytes: int) -> bool:
    try:
        with path.open("rb") as file:
            return digest_stream(file) == (digest, size_bytes)
    except OSError:  # not there, or on a disk that does not give it
        return False


def _pool_leave() -> None:
    """This process has one session from here on: a pool opens more, which would look like somebody at work."""
    options = connection.settings_dict["OPTIONS"]
    if options.get("pool"):
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # of the PostgreSQL backend only
        connection.settings_dict["OPTIONS"] = {name: value for name, value in options.items() if name != "pool"}


def _others_wait() -> int:
    """How many other sessions are in the database; those that are just ending are waited for."""
    give_up_at = time.monotonic() + _ENDING_SECONDS
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            (others,) = cursor.fetchone()
        if not others or time.monotonic() > give_up_at:
            return int(others)
        time.sleep(0.1)


def _target_check(folder: Path, *, replace: bool) -> None:
    """Raises RestoreTargetError where something would be lost, or somebody is at work."""
    others = _others_wait()
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    if others:
        raise RestoreTargetError(f"{others} other sessions are in the database: stop web, workers and beat first.")
    if tables and not replace:
        raise RestoreTargetError(
            f"The database has {len(tables)} tables. Restore into an empty one; or with --replace, which gives up all that is in it."
        )
    if not replace and any(blob_store().shard_digests(shard) for shard in SHARDS):
        raise RestoreTargetError(
            f"There are blobs in {settings.NEXA_BLOB_ROOT}. Restore onto an empty store; or with --replace, which keeps them: what the "
            "restored database doesn't know is collected later."
        )
    for name, path in _keys(folder).items():
        if path.exists() and path.read_bytes() != (folder / name).read_bytes():
            raise RestoreTargetError(f"There is another key in {path} than in {folder / name}. Move it away if it is the wrong one.")


def _keys(folder: Path) -> dict[str, Path]:
    """The backup's keys and where they belong, by the settings."""
    named = {COORDINATOR_KEY: settings.NEXA_COORDINATOR_KEY_FILE, PREVIOUS_KEY: settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE}
    return {name: Path(path) for name, path in named.items() if path and (folder / name).exists()}


def _key_place(source: Path, path: Path) -> None:
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(source.read_bytes())
    coordinator_private_key.cache_clear()
    coordinator_public_key.cache_clear()


def _blob_place(source: Path, digest: str) -> None:
    """Nobody else writes now, so without the lock that rule 2 of the store asks for."""
    if blob_store().has(digest):
        with blob_store().open(digest) as file:
            if digest_stream(file)[0] == digest:
                return
        blob_store().remove(digest)
    with source.open("rb") as file:
        blob_store().keep(blob_store().write(file))


def _published_place(folder: Path) -> None:
    """Where nothing is known of what was published, what the backup knew: the new epoch names it, and has a number beyond it."""
    if published_epoch():
        return
    for path in sorted(folder.glob("log/epoch-*/checkpoint")):
        target = Path(settings.NEXA_LOG_ROOT) / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
