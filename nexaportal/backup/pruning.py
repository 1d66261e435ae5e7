"""Removes old backups from a folder, and the blobs that none of those which stay has.

1. What counts is a whole backup: its manifest was signed by this portal's coordinator, and its files and blobs are there in their sizes.
   The newest are kept; one that isn't whole counts for nothing.
2. Only whole backups are removed. What is in the folder beside them was made by somebody else, or is damaged: that is a person's to judge,
   and is told.
3. The backup that was just made is kept in any case, whatever the clock said when others were made.
4. A backup that goes loses its name first, so that none is ever half there; what a killed run left is removed by the next.
5. Then blobs that no list in the folder names. While one of the lists can't be read, none is removed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from django.conf import settings

from jobs.blobs.locks import store_held
from ledger.coordinator_key import coordinator_public_key
from nexaportal.backup.errors import BackupDamagedError, BackupPlaceError
from nexaportal.backup.manifest import BLOBS, BLOBS_FOLDER, Report, blob_path, blobs_listed, is_backup_name, manifest_read
from workers.protocol.plurals import counted

_REMOVING: Final = ".removing-"


def backups_prune(*, made: Path, keep: int, report: Report) -> None:
    """Keeps `made` and, of the others in its folder, the newest, `keep` in all; `keep` is at least 1. Removes the rest, and their blobs.

    Waits for a backup that is being made. Raises BackupPlaceError where there is what is no backup, CoordinatorKeyMissingError, OSError;
    then some of the old ones, or their blobs, are still there.
    """
    root = made.parent
    with store_held():
        for left in root.glob(f"{_REMOVING}*"):
            shutil.rmtree(left)
        older = [path for path in sorted(root.iterdir(), reverse=True) if path != made and is_backup_name(path.name)]
        whole = []
        for folder in older:
            if fault := _fault(folder):
                report(f"Left as it is, and not counted: {folder}: {fault}")
            else:
                whole.append(folder)
        for folder in whole[keep - 1 :]:
            leaving = folder.rename(root / f"{_REMOVING}{folder.name}")
            shutil.rmtree(leaving)
            report(f"Removed the backup {folder.name}.")
        _blobs_prune(root, report)


def _fault(folder: Path) -> str:
    """Why a backup isn't whole (rule 1), or is no backup of ours; empty if it is."""
    try:
        manifest = manifest_read(folder, key=coordinator_public_key())
        if manifest.origin != settings.NEXA_ORIGIN:
            return f"it is of {manifest.origin}."
        for file in manifest.files:
            if (folder / file.name).stat().st_size != file.size_bytes:
                return f"{file.name} has another size than when it was made."
        for digest, size_bytes in blobs_listed(folder):
            if blob_path(folder.parent, digest).stat().st_size != size_bytes:
                return f"the blob {digest} has another size than its own."
    except (BackupDamagedError, OSError, ValueError) as error:
        return str(error)
    return ""


def _blobs_prune(root: Path, report: Report) -> None:
    """Rule 5."""
    named: set[Path] = set()
    for folder in root.iterdir():
        if folder.name in {BLOBS_FOLDER, "lost+found"} or not folder.is_dir():  # the latter is the file system's own, at the root of a disk
            continue
        try:
            named.update(blob_path(root, digest) for digest, _ in blobs_listed(folder))
        except (OSError, ValueError) as error:
            raise BackupPlaceError(
                f"No blob is removed, so the disk fills: expected a list of blobs in {folder / BLOBS}: {error}. "
                "Move what is no backup elsewhere."
            ) from error
    removed = [path for path in (root / BLOBS_FOLDER).glob("*/*") if path not in named]
    for path in removed:
        path.unlink()
    if removed:
        report(f"Removed {counted(len(removed), 'blob')} that no backup has any more.")
