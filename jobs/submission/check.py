"""What would become of a submission: every fault at once, each as the API would tell it. Nothing is written, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jobs.descriptor import Descriptor, Fault, array_of_one
from jobs.services.submission import blobs_uploaded, input_check, jobs_known, requirements_check, same_jobs_check
from jobs.storage import storage_check_roughly
from jobs.submission.cost import job_cost
from jobs.submission.images import image_resolve
from jobs.submission.inputs import FetchPolicy, uri_check
from ledger.movements import CreditsInsufficientError
from ledger.selectors import balance_micro_of
from people.models import User
from workers.protocol.problems import ProblemError


def submission_faults(*, owner: User, descriptor: Descriptor) -> list[Fault]:
    """Why `job_submit` would refuse this, as far as can be known beforehand; empty for a job that there is already."""
    array = array_of_one(descriptor)
    known = jobs_known(owner, array.jobs)
    faults = list(_faults("/job_id", lambda: same_jobs_check(array, known)))
    if known:
        return faults
    faults += _faults("/docker_image", lambda: image_resolve(descriptor.docker_image))
    faults += _faults("/requirements", lambda: requirements_check(array))
    if (uri := descriptor.input_uri) is not None:
        faults += _faults("/input_uri", lambda: uri_check(uri, descriptor.input_files[0], FetchPolicy.from_settings()))
    faults += _input_faults(owner, descriptor)
    faults += _faults("", lambda: storage_check_roughly(user=owner))
    faults += _faults("", lambda: _credits_check(owner, descriptor))
    return faults


def problem_faults(error: ProblemError, place: str) -> Iterator[Fault]:
    """A refusal as faults: those that it names, else itself at the JSON pointer `place`."""
    listed: list[dict[str, Any]] = error.extra.get("errors", [])
    if not listed:
        yield Fault(place, error.code, error.detail)
    for each in listed:
        yield Fault(each["path"], each["code"], each["message"])


def _faults(place: str, check: Callable[[], object]) -> Iterator[Fault]:
    try:
        check()
    except ProblemError as error:
        yield from problem_faults(error, place)


def _input_faults(owner: User, descriptor: Descriptor) -> Iterator[Fault]:
    """Of inputs that must have been uploaded; what is fetched is looked at when it was fetched."""
    fetched = set(descriptor.input_files) if descriptor.input_uri is not None else set()
    uploads = blobs_uploaded(owner=owner, digests={each.digest for each in descriptor.inputs})
    for number, each in enumerate(descriptor.inputs):
        if each.path not in fetched:
            yield from _faults("", partial(input_check, each, f"/inputs/{number}", uploads.get(each.digest)))


def _credits_check(owner: User, descriptor: Descriptor) -> None:
    needed, balance = job_cost(descriptor).reserved_micro, balance_micro_of(user_id=owner.pk)
    if needed > balance:
        raise CreditsInsufficientError(
            f"This job reserves up to {needed / 1e6:.6f} credits; your balance is {balance / 1e6:.6f}. "
            "Earn some with a node, ask a moderator for a grant, or lower estimated_flops, copies or credit_rate."
        )
