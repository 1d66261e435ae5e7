"""`manage.py join_token_mint USERNAME`: prints a join token, once, and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from nodes.services import join_token_mint
from people.models import User
from workers.protocol.problems import ProblemError


class Command(BaseCommand):
    """For operators and development; contributors mint theirs in the portal."""

    help = "Mint a join token of a user and print it on standard output: `nexa join TOKEN` takes it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--lifetime-seconds", type=float, default=settings.NEXA_JOIN_TOKEN_SECONDS)

    def handle(self, *args: Any, **options: Any) -> None:
        username: str = options["username"]
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        try:
            self.stdout.write(join_token_mint(owner=user, lifetime_seconds=options["lifetime_seconds"]))
        except ProblemError as error:
            raise CommandError(error.detail) from error
