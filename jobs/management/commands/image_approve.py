"""`manage.py image_approve NAME [--pull name@sha256:…] [--image-id sha256:…]`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs.services.approvals import image_approve
from workers.protocol.problems import ProblemError


class Command(BaseCommand):
    """Lets researchers run an image. Again for the same name: replaces its pin."""

    help = "Approve an image (registry/name or registry/name:tag) and pin it to content."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--pull", default="", help="name@sha256:… in a registry")
        parser.add_argument("--reason", default="Approved by the operator.", help="why; it stands in the moderators' trail")
        parser.add_argument("--image-id", default="", help="sha256:… of an image that hosts have loaded by hand")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            approval = image_approve(
                name=options["name"], pull=options["pull"], image_id=options["image_id"], by=None, reason=options["reason"]
            )
        except ProblemError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{approval.name}: {approval.pull or approval.image_id or 'approved, not pinned'}")
