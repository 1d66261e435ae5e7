"""`manage.py second_factors_remove EMAIL`, or `--unreadable`: lets people sign in whose second factor is lost."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from people.operators import second_factors_remove, second_factors_unreadable_remove


class Command(BaseCommand):
    """Whoever runs it vouches that it is the person who asks: afterwards their password is enough."""

    help = "Remove the second factors of the person with this address, or all that the portal's secret key does not open any more."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("email", nargs="?")
        which.add_argument("--unreadable", action="store_true", help="everybody's that were encrypted under another secret key")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            removed = second_factors_unreadable_remove() if options["unreadable"] else second_factors_remove(email=options["email"])
        except LookupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"removed: {removed}")
