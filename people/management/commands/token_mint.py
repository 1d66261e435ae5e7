"""`manage.py token_mint USERNAME --name NAME --scope jobs:read …`: prints the secret, once, and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from people.models import Scope, User
from people.services import token_mint
from workers.protocol.problems import ProblemError


class Command(BaseCommand):
    """For operators and development; people mint theirs in the portal."""

    help = "Mint an API token of a user and print its secret on standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="what the token is for (at most 64 characters)")
        parser.add_argument("--scope", action="append", choices=Scope.values, help="repeat for several; without any: all scopes")
        parser.add_argument("--days", type=int, help="how long it lives; without: until revoked")

    def handle(self, *args: Any, **options: Any) -> None:
        username: str = options["username"]
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        days: int | None = options["days"]
        try:
            _, secret = token_mint(
                owner=user,
                name=options["name"][:64],
                scopes=options["scope"] or Scope.values,
                expires_at=None if days is None else timezone.now() + timedelta(days=days),
            )
        except ProblemError as error:
            raise CommandError(error.detail) from error
        except OverflowError as error:
            raise CommandError(f"--days: {days} days from now is beyond the calendar.") from error
        self.stdout.write(secret)
