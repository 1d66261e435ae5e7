"""`manage.py person_invite EMAIL`: prints a link, good once, by which the owner of an address signs up."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from people.invitations.services import person_invite
from workers.protocol.problems import ProblemError


class Command(BaseCommand):
    """Sends no mail: whoever runs it hands the link over, and vouches for the address."""

    help = "Invite somebody (NEXA_SIGN_UP=invitation): print a link, good once, by which the owner of this address signs up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--reason", default="Invited by the operator.", help="why; it stands in the moderators' trail")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _, link = person_invite(email=options["email"], by=None, reason=options["reason"])
        except ProblemError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(link)
