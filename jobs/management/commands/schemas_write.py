"""`manage.py schemas_write [--check]`: the published schemas in docs/, from the code that they describe."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from drf_spectacular.generators import SchemaGenerator

from jobs.descriptor import descriptor_schema


class Command(BaseCommand):
    """Writes docs/descriptor.schema.json and docs/openapi.json, or fails where they differ from the code."""

    help = "Write the published schemas; with --check, fail where they differ from the code."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail on drift")
        parser.add_argument("--folder", type=Path, default=settings.BASE_DIR / "docs", help="default: docs/ of the repository")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        drifted = [name for name, text in schemas_of().items() if _text_of(folder / name) != text]
        if options["check"]:
            if drifted:
                raise CommandError(
                    f"{', '.join(drifted)} in {folder} differ from the code. Run manage.py schemas_write and commit the result."
                )
            self.stdout.write("the published schemas are those of the code")
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in schemas_of().items():
            (folder / name).write_text(text, encoding="utf-8")
        self.stdout.write(f"written: {', '.join(drifted) or 'nothing had changed'}")


def schemas_of() -> dict[str, str]:
    """File names and texts, the same for the same code: members sorted, one newline at the end."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]  # drf-spectacular is not typed
    documents = {
        "descriptor.schema.json": descriptor_schema(),
        "openapi.json": generator.get_schema(request=None, public=True),  # type: ignore[no-untyped-call]  # as above
    }
    return {name: json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n" for name, document in documents.items()}


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
