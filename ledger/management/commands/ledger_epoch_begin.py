"""After the database came back from a backup: has the log go on under another name, signed by the coordinator.

What was published and is not in the backup can't be taken back: others have it. So the log that goes on is another one, and says in a
signed statement which leaves it continues. Run once, after the restore and before the conclude processes start; until then they publish
nothing.

Empty the caches in front of the portal for addresses under /api/v1/ledger/tile/: tiles beyond the backup are other ones now.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.checkpoints import CheckpointUnprovenError, checkpoint_publish
from ledger.coordinator_key import CoordinatorKeyMissingError
from ledger.epochs import epoch_begin
from ledger.publication import PublishedUnreadableError


class Command(BaseCommand):
    """Needs the signing key and NEXA_LOG_ROOT, so run it where a conclude process runs."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, help="public: what happened, and when")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            epoch = epoch_begin(reason=options["reason"])
            checkpoint = checkpoint_publish()
        except (CoordinatorKeyMissingError, PublishedUnreadableError, CheckpointUnprovenError, ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Epoch {epoch.number} has begun: the log is {epoch.origin}.")
        self.stdout.write(f"Its first checkpoint covers {checkpoint.size if checkpoint else 0} leaves.")
        self.stdout.write("Empty the caches in front of the portal for addresses under /api/v1/ledger/tile/.")
