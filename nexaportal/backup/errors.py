"""What keeps a backup from being made or restored. Each message says what was expected, what was found and what to do.

BackupError
├── BackupToolError         a program of PostgreSQL is missing, too old, or failed
├── BackupPlaceError        the folder for backups can't be used
├── BackupBlobsLostError    bytes that the database refers to are not in the blob store, so they are not in the backup either
├── BackupDamagedError      what is there is not what the manifest says
├── BackupForeignError      it is another portal's, or of a newer release
└── RestoreTargetError      there is something where the backup is to be restored to
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class BackupError(Exception):
    code: ClassVar[str] = "backup_failed"


class BackupToolError(BackupError):
    code = "backup_tool"


class BackupPlaceError(BackupError):
    code = "backup_place"


class BackupBlobsLostError(BackupError):
    """`made`: the backup, which is there without them."""

    code = "backup_blobs_lost"

    def __init__(self, message: str, *, made: Path) -> None:
        super().__init__(message)
        self.made = made


class BackupDamagedError(BackupError):
    code = "backup_damaged"


class BackupForeignError(BackupError):
    code = "backup_foreign"


class RestoreTargetError(BackupError):
    code = "restore_target"
