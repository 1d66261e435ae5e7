"""Reads the whole ledger and says what does not agree: database with log, log with checkpoints, files with both. Changes nothing.

Exit code 1, and a line for each fault with its code, if there is any. Run it after a restore, and now and then.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.coordinator_key import CoordinatorKeyMissingError
from ledger.verification import LedgerVerification
from workers.protocol.plurals import counted


class Command(BaseCommand):
    """Needs the coordinator's public key; and NEXA_LOG_ROOT, to look at what was published."""

    help = __doc__ or ""

    def handle(self, *args: Any, **options: Any) -> None:
        verification = LedgerVerification()
        count = 0
        try:
            for fault in verification.faults():
                count += 1
                self.stdout.write(str(fault))
        except CoordinatorKeyMissingError as error:
            raise CommandError(str(error)) from error
        read = (
            counted(verification.leaves, "leaf", "leaves"),
            counted(verification.checkpoints, "checkpoint"),
            counted(verification.files, "file"),
        )
        self.stdout.write(f"Read: {', '.join(read)}.")
        if count:
            raise CommandError(f"The ledger has {counted(count, 'fault')}.")
        self.stdout.write("Database, log and files agree.")
