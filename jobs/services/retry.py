"""The same descriptor once more: a new job under a new label, with the cost and the checks of any submission."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter, ValidationError

from jobs.descriptor import descriptor_parse
from jobs.descriptor.model import Label
from jobs.errors import LabelConflictError, LabelInvalidError
from jobs.models import Job
from jobs.services.submission import job_submit
from jobs.submission.labels import LABEL_CHARACTERS_MAX, label_next
from people.models import User

_LABEL: Final = TypeAdapter(Label)


def job_retry(*, job: Job, by: User, label: str) -> tuple[Job, bool]:
    """Submits the job's descriptor for `by`, its owner, as `label`: (the new job, True), or (the one that an earlier retry made, False).

    Inputs are resolved anew: uploads must still be there. Raises LabelInvalidError, LabelConflictError (for the label of `job` itself too),
    and what `jobs_submit` raises.
    """
    try:
        _LABEL.validate_python(label)
    except ValidationError as error:
        raise LabelInvalidError(
            f"Expected 1 to {LABEL_CHARACTERS_MAX} letters, digits and . _ : + -, beginning with a letter or digit; found {label[:80]!r}."
        ) from error
    if label == job.label:
        raise LabelConflictError(f"The job that you run again is called {label!r}. Choose another label.", job=str(job.pk))
    return job_submit(owner=by, descriptor=descriptor_parse({**job.descriptor, "job_id": label}))


def label_free(*, job: Job) -> str:
    """A label that its owner has not used yet: the job's with `-retry2`, or the next number, behind it."""
    return label_next(job, mark="-retry")
