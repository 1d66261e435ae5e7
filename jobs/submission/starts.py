"""What a new job can start from: the examples that come with the portal, nothing, or a job of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings

from jobs.descriptor import SCHEMA_VERSION
from jobs.descriptor.form import without_defaults
from jobs.models import Job
from jobs.submission.labels import label_next
from workers.protocol.canonical import json_parse

BLANK: Final = "blank"


@dataclass(frozen=True)
class Example:
    """A folder of examples/ and the descriptor in it."""

    name: str
    document: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.document.get("title") or self.name)


@cache
def examples() -> tuple[Example, ...]:
    """Those with a job.json, by name; they are part of the software, so they are read once a process."""
    found = []
    for file in sorted((settings.BASE_DIR / "examples").glob("*/job.json")):
        data = file.read_bytes()
        found.append(Example(file.parent.name, json_parse(data, limit_bytes=len(data))))
    return tuple(found)


def start_document(name: str) -> dict[str, Any] | None:
    """The descriptor to begin with: of an example, or `blank`; None for any other name."""
    if name == BLANK:
        return {"schema_version": SCHEMA_VERSION}
    return next((example.document for example in examples() if example.name == name), None)


def clone_document(job: Job) -> dict[str, Any]:
    """The descriptor of a job under the next free label, without what is meant anyway."""
    return {**without_defaults(job.descriptor), "job_id": label_next(job)}
