"""Prepares a development stack: migrates, grants to roles, makes the people that a seed names, mints their tokens, approves its images."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from jobs.models import ImageApproval
from people.models import Scope, User
from people.services import researcher_approve, token_mint

RESEARCHER_SCOPES = [Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.LEDGER_READ]
CONTRIBUTOR_SCOPES = [Scope.NODES_READ, Scope.NODES_WRITE, Scope.LEDGER_READ]

STANDARD = Path("-")


class Command(BaseCommand):
    """Idempotent but for the tokens, which are new each time. For development, the demo and tests; a real portal has sign-up."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "seed", type=Path, help="{researcher, contributors: [names], images: {name: image id}} in JSON; -: from standard input"
        )
        parser.add_argument("access", type=Path, help="where to write the tokens (a new file, mode 0600); -: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        seed = json.loads(sys.stdin.read() if options["seed"] == STANDARD else options["seed"].read_text())
        call_command("migrate", interactive=False, verbosity=0)
        call_command("database_roles")
        with transaction.atomic():
            operator = _person("operator", is_staff=True)
            researcher = _person(seed["researcher"])
            if not researcher.is_researcher:
                researcher_approve(user=researcher, approved_by=None)
            access = {
                "researcher_token": token_mint(owner=researcher, name="stack", scopes=RESEARCHER_SCOPES)[1],
                "contributor_tokens": {
                    name: token_mint(owner=_person(name), name="stack", scopes=CONTRIBUTOR_SCOPES)[1] for name in seed["contributors"]
                },
            }
            for name, image_id in seed["images"].items():
                ImageApproval.objects.update_or_create(name=name, defaults={"image_id": image_id, "approved_by": operator})
        if options["access"] == STANDARD:
            self.stdout.write(json.dumps(access))
            return
        with open(os.open(options["access"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(access, file)


def _person(name: str, *, is_staff: bool = False) -> User:
    """A user without a password: they can use their token, nobody can sign in as them."""
    person, created = User.objects.get_or_create(username=name, defaults={"email": f"{name}@example.org", "is_staff": is_staff})
    if created:
        person.set_unusable_password()
        person.save(update_fields=["password"])
    return person
