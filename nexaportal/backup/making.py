"""Makes a backup while the portal runs.

1. Database first, then blobs, and nothing is removed from the blob store meanwhile (jobs/blobs/locks.py): so each blob that the dump
   refers to is there to be copied. What is uploaded meanwhile is in the next backup.
2. The list of blobs is read in the very snapshot that is dumped.
3. A blob is copied once for all backups of the folder, and its digest is checked while it is copied. Of the copies that are there a
   sixteenth is read again each day, and what has rotted is copied anew.
4. The backup is made under another name, and gets its own when all of it is on the disk. One at a time, by the same lock; what a killed
   one left is removed by the next.
5. Blobs that the store has lost keep nothing else from being backed up: they are listed in blobs-lost.txt, and told when the rest is done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from jobs.blobs import blob_store
from jobs.blobs.locks import store_held
from jobs.models import Blob
from ledger.coordinator_key import coordinator_private_key
from ledger.models import Checkpoint
from nexaportal.backup.errors import BackupBlobsLostError, BackupPlaceError
from nexaportal.backup.manifest import (
    BLOBS,
    BLOBS_LOST,
    COORDINATOR_KEY,
    DATABASE,
    MANIFEST,
    PREVIOUS_KEY,
    SECRET,
    BackedUpLog,
    Manifest,
    Report,
    backed_up,
    backup_name,
    blob_path,
    blobs_listed,
    manifest_sign,
)
from nexaportal.backup.postgres import database_dump, tools_check
from workers.protocol.digests import digest_stream

_MAKING: Final = ".making-"
_LOST_NAMED: Final = 5


def backup_make(*, root: Path, now: datetime, report: Report) -> Path:
    """Makes a backup in `root` and returns its folder.

    Raises BackupToolError, BackupPlaceError, CoordinatorKeyMissingError, OSError; BackupBlobsLostError once the backup is there, without
    them.
    """
    key = coordinator_private_key()
    tools_check()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    final = root / backup_name(now)
    if final.exists():
        raise BackupPlaceError(f"There is a backup {final} already. Make one a second.")
    if root.stat().st_mode & 0o077:
        raise BackupPlaceError(f"{root} holds keys and may be entered by others: chmod 700 it, or choose another folder.")
    with store_held():
        for left in root.glob(f"{_MAKING}*"):
            shutil.rmtree(left)
        folder = root / f"{_MAKING}{final.name}"
        folder.mkdir(mode=0o700)
        manifest = _snapshot_take(folder, now)
        report(f"The database is dumped: {(folder / DATABASE).stat().st_size} bytes.")
        copied, lost = _blobs_copy(root, folder, now)
        if lost:
            manifest = _lost_leave_out(folder, manifest, lost)
        report(f"{manifest.blobs} blobs beside the dump, {manifest.blob_bytes} bytes; {copied} of them copied, the others were there.")
        _keys_copy(folder)
        _published_copy(folder)
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        manifest = manifest.model_copy(update={"files": tuple(backed_up(folder, name) for name in names)})
        _secret_write(folder / MANIFEST, manifest_sign(manifest, key=key))
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        folder.rename(final)
        _sync(root)
    if lost:
        more = f" and {len(lost) - _LOST_NAMED} more" if len(lost) > _LOST_NAMED else ""
        raise BackupBlobsLostError(
            f"The backup {final} is whole but for {', '.join(lost[:_LOST_NAMED])}{more}, which the database names and the blob store has "
            f"lost or damaged; {BLOBS_LOST} lists them. No backup in this folder has them. Bring them back from elsewhere if you can, and "
            "make another backup.",
            made=final,
        )
    return final


def _snapshot_take(folder: Path, now: datetime) -> Manifest:
    """Rules 1 and 2. The manifest without its files."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot(), current_setting('server_version_num')::int")
        snapshot, postgres = cursor.fetchone()
        checkpoint = Checkpoint.objects.order_by("-pk").first()
        count, total = 0, 0
        with (folder / BLOBS).open("w", encoding="ascii") as file:
            blobs = Blob.objects.filter(data=None, removed_at=None).order_by("pk").values_list("pk", "size_bytes")
            for digest, size_bytes in blobs.iterator(chunk_size=5000):
                file.write(f"{digest} {size_bytes}\n")
                count, total = count + 1, total + size_bytes
        applied = MigrationRecorder(connection).applied_migrations()
        database_dump(snapshot=snapshot, to=folder / DATABASE)
    (folder / DATABASE).chmod(0o600)
    return Manifest(
        version=1,
        made_at=now,
        software=settings.NEXA_VERSION,
        origin=settings.NEXA_ORIGIN,
        postgres=postgres,
        log=BackedUpLog(origin=_origin_of(checkpoint), size=checkpoint.size) if checkpoint else None,
        coordinator_key_id=coordinator_private_key().public.key_id,
        migrations=tuple(sorted(f"{app}.{name}" for app, name in applied)),
        blobs=count,
        blob_bytes=total,
        files=(),
    )


def _origin_of(checkpoint: Checkpoint) -> str:
    return checkpoint.note.partition("\n")[0]


def _blobs_copy(root: Path, folder: Path, now: datetime) -> tuple[int, list[str]]:
    """Rule 3. How many were not there from an earlier backup, and the digests of those that the store does not have."""
    copied, lost = 0, []
    read_again = f"{now.toordinal() % 16:x}"
    for digest, size_bytes in blobs_listed(folder):
        path = blob_path(root, digest)
        if path.exists() and path.stat().st_size == size_bytes and (path.name[0] != read_again or _has_digest(path, digest)):
            continue
        if _blob_copy(path, digest):
            copied += 1
        else:
            lost.append(digest)
    return copied, lost


def _blob_copy(path: Path, digest: str) -> bool:
    """Whether `path` has the blob now: not where the store has lost or damaged it, or its disk does not give it.

    Raises OSError where it can't be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as target:
        for chunk in _chunks(digest):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    if not _has_digest(temporary, digest):
        temporary.unlink()
        return False
    temporary.replace(path)
    return True


def _chunks(digest: str) -> Iterator[bytes]:
    """What the store gives of a blob, up to where it gives no more."""
    with suppress(OSError), blob_store().open(digest) as source:
        while chunk := source.read(1024 * 1024):
            yield chunk


def _has_digest(path: Path, digest: str) -> bool:
    """False also where the disk does not give it."""
    try:
        with path.open("rb") as file:
            return digest_stream(file)[0] == digest
    except OSError:
        return False


def _lost_leave_out(folder: Path, manifest: Manifest, lost: Collection[str]) -> Manifest:
    """Rule 5. The manifest of what is left; the lists as they are then."""
    listed = blobs_listed(folder)
    kept = [(digest, size_bytes) for digest, size_bytes in listed if digest not in set(lost)]
    (folder / BLOBS).write_text("".join(f"{digest} {size_bytes}\n" for digest, size_bytes in kept), encoding="ascii")
    (folder / BLOBS_LOST).write_text("".join(f"{digest}\n" for digest in lost), encoding="ascii")
    return manifest.model_copy(update={"blobs": len(kept), "blob_bytes": sum(size_bytes for _, size_bytes in kept)})


def _keys_copy(folder: Path) -> None:
    """Keys as their files are, sealed or not, and the secret that second factors and webhooks are derived from."""
    (folder / "keys").mkdir(mode=0o700)
    named = {COORDINATOR_KEY: settings.NEXA_COORDINATOR_KEY_FILE, PREVIOUS_KEY: settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE}
    for name, source in named.items():
        if source:
            _secret_write(folder / name, Path(source).read_bytes())
    _secret_write(folder / SECRET, settings.SECRET_KEY.encode())


def _published_copy(folder: Path) -> None:
    """The newest checkpoint of each epoch; tiles are written anew from the database."""
    for path in sorted(Path(settings.NEXA_LOG_ROOT).glob("epoch-*/checkpoint")):
        target = folder / "log" / path.parent.name / path.name
        target.parent.mkdir(mode=0o700, parents=True)
        target.write_bytes(path.read_bytes())


def _secret_write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
