"""Labels numbered on: of a job that is cloned or tried again."""

from __future__ import annotations

import re
from typing import Final

from jobs.models import Job

LABEL_CHARACTERS_MAX: Final = 128
_NUMBER_DIGITS: Final = 6
_NEWEST: Final = 1000


def label_next(job: Job, *, mark: str = "-") -> str:
    """`fold-2` after `fold`, `fold-3` after `fold-2`: numbered on from the highest that its owner has. `mark` stands before the number."""
    numbered = re.compile(rf"(.*?){re.escape(mark)}([0-9]{{1,{_NUMBER_DIGITS}}})")
    match = numbered.fullmatch(job.label)
    stem = (match[1] if match else job.label)[: LABEL_CHARACTERS_MAX - len(mark) - _NUMBER_DIGITS - 1]
    alike = Job.objects.filter(owner=job.owner_id, label__startswith=f"{stem}{mark}").order_by("-submitted_at")
    labels = alike.values_list("label", flat=True)[:_NEWEST]
    numbers = [int(found[2]) for label in labels if (found := numbered.fullmatch(label)) and found[1] == stem]
    return f"{stem}{mark}{max([1, *numbers]) + 1}"
