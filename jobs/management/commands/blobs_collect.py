"""Removes the bytes of blobs that nothing wants any more, as beat has it done shard by shard: all of the store at once.

What is found unwanted is marked first, and removed by a run that comes NEXA_BLOB_GRACE_HOURS later. Exit code 1 if a wanted blob has lost
its file.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from jobs.blobs.collection import SHARDS, Collected, shard_collect
from workers.protocol.plurals import counted


class Command(BaseCommand):
    """Needs the database and the blob store; several at once are fine."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Collected()
        for shard in SHARDS:
            shard_collect(shard=shard, now=timezone.now(), dry_run=options["dry_run"], into=found)
        would = "Would remove" if options["dry_run"] else "Removed"
        self.stdout.write(f"Looked at {counted(found.looked_at, 'blob')}. New ones that nothing wants: {found.marked}.")
        orphans = counted(found.files_removed, "file")
        self.stdout.write(f"{would} {counted(found.removed, 'blob')} of {found.removed_bytes} bytes, and {orphans} without a row.")
        if found.passed_over:
            self.stdout.write(f"In use just now: {found.passed_over}. The next run looks again.")
        if found.lost:
            for digest in found.lost:
                self.stdout.write(f"lost: {digest}")
            raise CommandError("Wanted blobs have lost their files. Put the files back from a backup (docs/operations.md).")
