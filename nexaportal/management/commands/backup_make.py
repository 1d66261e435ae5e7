"""Makes a backup of the running portal in a folder: database, blobs, keys. Blobs are copied once for all backups of the folder.

With --keep, older backups are removed from the folder when the new one is whole (nexaportal/backup/pruning.py).

Run it as the owner of the tables, where the coordinator's key and the blob store are. docs/operations.md says how often, and what for.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ledger.coordinator_key import CoordinatorKeyMissingError
from nexaportal.backup.errors import BackupBlobsLostError, BackupError
from nexaportal.backup.making import backup_make
from nexaportal.backup.pruning import backups_prune


class Command(BaseCommand):
    """The folder is made if it isn't there, for its owner only: it holds keys."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="where backups are kept")
        parser.add_argument("--keep", type=_keep, metavar="N", help="remove older backups but the newest N, the new one among them")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            lost: BackupBlobsLostError | None = None
            try:
                made = backup_make(root=options["folder"], now=timezone.now(), report=self.stdout.write)
            except BackupBlobsLostError as error:
                lost, made = error, error.made
            self.stdout.write(f"Backup: {made}")
            if options["keep"] is not None:  # also then, or the disk would fill: no older backup has what is lost
                backups_prune(made=made, keep=options["keep"], report=self.stdout.write)
            if lost is not None:
                raise lost
        except BackupError as error:
            raise CommandError(f"{error.code}: {error}") from error
        except (CoordinatorKeyMissingError, OSError) as error:
            raise CommandError(str(error)) from error


def _keep(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)
