"""Restores a backup, after everything of it was checked, and begins a new epoch of the ledger's log.

Stop web, workers and beat first. Run it as the owner of the tables, with the settings of the portal, onto an empty database, blob store
and log folder. With --check nothing is written. Start Redis empty afterwards, and empty the caches in front of the portal for addresses
under /api/v1/ledger/tile/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.checkpoints import CheckpointUnprovenError
from ledger.coordinator_key import CoordinatorKeyMissingError
from ledger.publication import PublishedUnreadableError
from nexaportal.backup.errors import BackupError
from nexaportal.backup.restoring import backup_check, backup_restore


class Command(BaseCommand):
    """Exit code 1 if the backup can't be restored, or the ledger has faults afterwards."""

    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="one backup, within the folder that has its blobs")
        parser.add_argument("--reason", default="", help="public: what happened, and when")
        parser.add_argument("--replace", action="store_true", help="give up what is in the database")
        parser.add_argument("--without-damaged-blobs", action="store_true", help="name blobs whose copies have rotted, and leave them out")
        parser.add_argument("--check", action="store_true", help="only check the backup")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["check"] and not options["reason"]:
            raise CommandError("Say with --reason what happened, and when: it stands in the public log.")
        try:
            if options["check"]:
                manifest = backup_check(folder=options["folder"])
                self.stdout.write(
                    f"The backup of {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC is whole: {manifest.blobs} blobs beside the dump."
                )
                return
            restored = backup_restore(
                folder=options["folder"],
                reason=options["reason"],
                replace=options["replace"],
                report=self.stdout.write,
                without_damaged_blobs=options["without_damaged_blobs"],
            )
        except BackupError as error:
            raise CommandError(f"{error.code}: {error}") from error
        except (CoordinatorKeyMissingError, PublishedUnreadableError, CheckpointUnprovenError, ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        for fault in restored.faults:
            self.stdout.write(fault)
        if restored.faults:
            raise CommandError(f"The ledger has {len(restored.faults)} faults.")
        self.stdout.write(f"Database, log and files agree. The log goes on as {restored.epoch.origin}.")
        self.stdout.write("Start Redis empty, and empty the caches in front of the portal for addresses under /api/v1/ledger/tile/.")
