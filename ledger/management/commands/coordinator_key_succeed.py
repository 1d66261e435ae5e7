"""Gives the coordinator another key: makes it, has the present key sign that it follows, and publishes that.

Orders go on under the present key until NEXA_COORDINATOR_KEY_FILE names the new file and the web and conclude processes are started again,
all of them. Hosts follow by themselves when they meet the first order of the new key.

Set NEXA_COORDINATOR_PREVIOUS_KEY_FILE to the old file for a while: checkpoints are then signed by both keys, so that readers who know the
old one only can go on until they have followed. Destroy the old file afterwards: whoever has it can name other successors to hosts that
have not followed yet. Run again with the same file, it changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.coordinator_key import CoordinatorKeyMissingError, coordinator_private_key, key_file_read
from ledger.succession import SuccessionRefusedError, succession_record
from workers.protocol.keys import PrivateKey
from workers.protocol.strict_base64 import base64_encode


class Command(BaseCommand):
    """Needs the present signing key, so run it where a web or conclude process runs."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("new_key_file", type=Path, help="where to write the new key, mode 0600; or a file that holds one already")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["new_key_file"]
        try:
            present = coordinator_private_key()
            new = key_file_read(path) if path.exists() else _key_make(path)
            succession_record(key=present, successor=new.public)
        except (CoordinatorKeyMissingError, SuccessionRefusedError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{present.public.key_id} is succeeded by {new.public.key_id}.")
        self.stdout.write(f"Now set NEXA_COORDINATOR_KEY_FILE={path.absolute()} (and NEXA_COORDINATOR_PUBLIC_KEY={new.public.to_base64()}")
        self.stdout.write("where a process has the public half only), and start all processes again.")


def _key_make(path: Path) -> PrivateKey:
    """A new key in a new file, durable before anything names it. Raises OSError."""
    key = PrivateKey.generate()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(base64_encode(key.raw) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key
