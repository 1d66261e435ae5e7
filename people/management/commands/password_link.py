"""`manage.py password_link EMAIL`: prints a link at which somebody who has an account sets a new password."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from people.operators import password_link


class Command(BaseCommand):
    """For people who can't sign in where there is no mail. Whoever runs it vouches that the address is theirs, and hands the link over."""

    help = "Print a link, good once, at which the person with this address sets a password. The address counts as confirmed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(password_link(email=options["email"]))
        except LookupError as error:
            raise CommandError(str(error)) from error
