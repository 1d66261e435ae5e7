"""`manage.py operator_invite EMAIL`: makes an operator's account and prints the link at which they set their password."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from people.errors import NameTakenError
from people.mail import mail_server_is_missing
from people.operators import operator_invite


class Command(BaseCommand):
    """The first thing after an installation, and the way back in for an operator who lost their password while there is no mail."""

    help = "Make the person with this address an operator (staff, every permission) and print a link, good once, to set their password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--username", default="operator", help="for a person who has no account yet")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            validate_email(options["email"])
            _, link = operator_invite(email=options["email"], username=options["username"])
        except ValidationError as error:
            raise CommandError(f"Expected an e-mail address; found {options['email']!r}.") from error
        except NameTakenError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(link)
        if mail_server_is_missing():
            self.stderr.write("No mail server is set (NEXA_EMAIL_HOST): the portal sends no mail, and says so where it would.")
