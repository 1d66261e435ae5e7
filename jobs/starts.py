"""What a new job can start from: the examples that come with the portal, nothing, or a job of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings

from jobs.descriptor import SCHEMA_VERSION
from jobs.descriptor.form import without_defaults
from jobs.models import Job
from workers.protocol.canonical import json_parse

BLANK: Final = "blank"
_NUMBERED: Final = re.compile(r"(.*?)-(\d{1,6})")
_LABEL_CHARACTERS: Final = 128
_LABELS_LIKE_MAX: Final = 1000


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


def label_next(job: Job) -> str:
    """`fold-2` after `fold`, `fold-3` after `fold-2`: numbered on from the highest that its owner has."""
    match = _NUMBERED.fullmatch(job.label)
    stem = (match[1] if match else job.label)[: _LABEL_CHARACTERS - 8]
    labels = Job.objects.filter(owner=job.owner_id, label__startswith=f"{stem}-").values_list("label", flat=True)[:_LABELS_LIKE_MAX]
    numbers = [int(found[2]) for label in labels if (found := _NUMBERED.fullmatch(label)) and found[1] == stem]
    return f"{stem}-{max([1, *numbers]) + 1}"
