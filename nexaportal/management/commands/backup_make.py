"""Makes a backup of the running portal in a folder: database, blobs, keys. Blobs are copied once for all backups of the folder.

Run it as the owner of the tables, where the coordinator's key and the blob store are. docs/operations.md says how often, and what for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ledger.coordinator_key import CoordinatorKeyMissingError
from nexaportal.backup.errors import BackupError
from nexaportal.backup.making import backup_make


class Command(BaseCommand):
    """The folder is made if it isn't there, for its owner only: it holds keys."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="where backups are kept")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = backup_make(root=options["folder"], now=timezone.now(), report=self.stdout.write)
        except BackupError as error:
            raise CommandError(f"{error.code}: {error}") from error
        except (CoordinatorKeyMissingError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Backup: {made}")
