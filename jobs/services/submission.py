"""Submission and cancellation of jobs.

One transaction writes jobs, inputs, replicas, events and reservations, or nothing; of an array, all of it. The unique (owner, label) row
decides races: of two identical submissions at once, one writes and the other finds what it wrote. Jobs are written in the order of their
labels, so that two arrays that share some wait for each other and never deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs.bulk import rows_insert
from jobs.descriptor import Descriptor, InputFile, JobArray, PlannedJob, RedundancyPolicy, Visibility, array_of_one
from jobs.errors import (
    InputMismatchError,
    InputUnknownError,
    JobConcludedError,
    JobDisputedError,
    LabelConflictError,
    RequirementsImpossibleError,
    ResearcherRequiredError,
)
from jobs.matching.requirements import LARGEST, gpu_memory_ceiling, shortfalls_of, tier_fitting
from jobs.models import Blob, Job, JobEvent, JobInput, Upload
from jobs.nudges import exchanges_wake, nudge_on_commit, outbox_nudge
from jobs.selectors import largest_node
from jobs.services.closing import job_close
from jobs.services.replicas import replicas_queue_all
from jobs.services.visibility import link_secret_make
from jobs.states import JOB_TERMINAL, JobState
from jobs.storage import storage_check_roughly
from jobs.submission.cost import job_cost, spot_share_of
from jobs.submission.images import image_resolve
from jobs.submission.inputs import FetchPolicy, inputs_fetch
from jobs.timed_ids import timed_id_make
from ledger.movements import CreditsInsufficientError, movements_post
from ledger.services import account_of, reservation_of
from nodes.tiers import TIER_FLOORS
from people.models import User
from workers.protocol.messages.order import ImageReference
from workers.protocol.plurals import counted

CONFLICTS_MAX: Final = 50
"""Jobs of other content that one answer names."""

InputErrorT = TypeVar("InputErrorT", InputUnknownError, InputMismatchError)


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that a submission made, or found: `created` says which."""

    id: UUID
    label: str
    state: JobState
    created: bool


def job_submit(*, owner: User, descriptor: Descriptor, policy: FetchPolicy | None = None) -> tuple[Job, bool]:
    """Queues a job; (job, True), or (the job of before, False) for the same label and content. As an array of one."""
    (submitted,) = jobs_submit(owner=owner, array=array_of_one(descriptor), policy=policy)
    return Job.objects.get(pk=submitted.id), submitted.created


def jobs_submit(*, owner: User, array: JobArray, policy: FetchPolicy | None = None) -> list[SubmittedJob]:
    """Queues all jobs of an array or none, and returns them in its order; those of before for the same label and content.

    Inputs are fetched first, each file once. `policy` None: as the settings say.
    Raises ResearcherRequiredError, LabelConflictError, RequirementsImpossibleError, the image and input errors of jobs.errors,
    StorageFullError and CreditsInsufficientError.
    """
    researcher_check(owner)
    found = jobs_known(owner, array.jobs)
    same_jobs_check(array, found)
    if new := [one for one in array.jobs if one.label not in found]:
        requirements_check(array)
        image = image_resolve(array.shared.docker_image)
        storage_check_roughly(user=owner)
        fetched = _fetched(array, new, policy or FetchPolicy.from_settings())
        with transaction.atomic():
            found |= _jobs_write(owner, array, new, image, fetched)
    return [SubmittedJob(known.id, one.label, known.state, known.created) for one in array.jobs for known in (found[one.label],)]


def researcher_check(owner: User) -> None:
    """Raises ResearcherRequiredError."""
    if not (owner.is_active and owner.is_researcher):
        raise ResearcherRequiredError(
            "Submitting runs programs on other people's machines. Ask the operator to approve you as a researcher."
        )


def job_cancel(*, job: Job) -> Job:
    """Ends an open job, as its owner wishes, and gives its reservation back; hosts are told by their next exchange.

    A cancelled job stays as it is. Raises JobConcludedError, JobDisputedError.
    """
    with transaction.atomic():
        locked = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        state = JobState(locked.state)
        if state == JobState.CANCELLED:
            return locked
        if state in JOB_TERMINAL:
            raise JobConcludedError(f"The job is {state}; only a job that has not ended can be cancelled.", state=state.value)
        if state == JobState.DISPUTED:
            raise JobDisputedError("Hosts have delivered and disagree; wait for the ruling, which ends the job.")
        job_close(job=locked, to=JobState.CANCELLED, code="cancelled", message="Cancelled by its owner.")
        transaction.on_commit(lambda: exchanges_wake([locked.tier]))
    return locked


def requirements_check(array: JobArray) -> None:
    """Raises RequirementsImpossibleError, naming the largest tier, its bounds, and the largest node registered in it now."""
    descriptor = array.shared
    shortfalls = shortfalls_of(descriptor)
    if not shortfalls:
        return
    floor = TIER_FLOORS[LARGEST]
    node = largest_node(tier=LARGEST)
    fitting = tier_fitting(descriptor) if all(each.tier for each in shortfalls) else None
    advice = f"Ask for tier {fitting.rank} ({fitting})." if fitting else "Ask for less, or split the work into several jobs."
    now = (
        f"The largest registered in it has {node['gpus']} x {node['gpu_memory_bytes'] / 1e9:.4g} GB GPU memory."
        if node
        else "No node is registered in it now."
    )
    raise RequirementsImpossibleError(
        f"{'; '.join(each.sentence() for each in shortfalls)}. The largest tier is {LARGEST} (tier {LARGEST.rank}), from "
        f"{floor.gpu_memory_bytes / 1e9:.4g} GB GPU memory on. {now} {advice}",
        errors=[
            {"path": array.shared_place("requirements", each.field), "code": "requirements_impossible", "message": each.sentence()}
            for each in shortfalls
        ],
        suggested_tier=fitting.rank if fitting else None,
        largest_tier={
            "tier": LARGEST.rank,
            "name": LARGEST.value,
            "floor": {"gpu_memory_bytes": floor.gpu_memory_bytes, "memory_bytes": floor.memory_bytes, "cores": floor.cores},
            "ceiling": {"gpu_memory_bytes": gpu_memory_ceiling(LARGEST)},
            "largest_node": node,
        },
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """A job that there is, as far as a submission has to know it."""

    id: UUID
    digest: str
    submitted_at: datetime
    state: JobState
    created: bool = False


def jobs_known(owner: User, planned: Sequence[PlannedJob]) -> dict[str, _Known]:
    """What there is of these jobs, by label."""
    rows = Job.objects.filter(owner=owner, label__in=[one.label for one in planned])
    columns = ("label", "pk", "descriptor_digest", "submitted_at", "state")
    return {label: _Known(pk, digest, at, JobState(state)) for label, pk, digest, at, state in rows.values_list(*columns)}


def _jobs_write(
    owner: User, array: JobArray, new: Sequence[PlannedJob], image: ImageReference, fetched: Mapping[str, Blob]
) -> dict[str, _Known]:
    """The jobs by label: written, or found, where another submission has written the same meanwhile."""
    inputs = _inputs_resolve(owner, array, new, fetched)
    account = account_of(user=owner)
    like = Job(owner=owner, **_shared_columns(array.shared, image))
    ids = {one.label: timed_id_make() for one in new}
    is_unlisted = like.visibility == Visibility.UNLISTED
    records = [
        {
            "id": ids[one.label],
            "label": one.label,
            "title": one.document.get("title", ""),
            "descriptor": one.document,
            "descriptor_digest": one.digest,
            "link_secret": link_secret_make() if is_unlisted else "",
        }
        for one in sorted(new, key=lambda one: one.label)
    ]
    # Waits for unfinished submissions of the same labels, then leaves out what they have written, if they were committed.
    written = {label for (label,) in rows_insert(like, records, then="ON CONFLICT (owner_id, label) DO NOTHING RETURNING label")}
    found = {
        one.label: _Known(ids[one.label], one.digest, like.submitted_at, JobState.QUEUED, created=True)
        for one in new
        if one.label in written
    }
    if len(written) < len(new):
        raced = jobs_known(owner, [one for one in new if one.label not in written])
        same_jobs_check(array, raced)
        found |= raced
    if not written:
        return found
    if len(written) > 1 and account.balance_micro < len(written) * like.reserved_micro:
        raise _insufficient(len(written), like.reserved_micro, account.balance_micro)
    job_ids = [ids[one.label] for one in new if one.label in written]
    rows_insert(
        JobInput(),
        [
            {"job_id": ids[label], "path": path, "blob_id": blob.digest}
            for label in inputs.keys() & written
            for path, blob in sorted(inputs[label].items())
        ],
    )
    # In this order, as what is asked for first happens first after the commit: a waiting host comes before whoever watches.
    replicas_queue_all(like=like, job_ids=job_ids, count=like.copies, descriptor=array.shared)
    rows_insert(JobEvent(kind="job.queued", payload={"tier": like.tier, "copies": like.copies}), [{"job_id": one} for one in job_ids])
    nudge_on_commit(outbox_nudge)
    # Last: everybody's submissions and payments wait for the lock on the escrow.
    movements_post([reservation_of(account=account, job_id=one, amount_micro=like.reserved_micro) for one in job_ids])
    return found


def _shared_columns(descriptor: Descriptor, image: ImageReference) -> dict[str, Any]:
    """What the rows of all jobs of an array have in common."""
    cost = job_cost(descriptor)
    verification = descriptor.verification
    return {
        "job_type": descriptor.type,
        "image": image.model_dump(mode="json"),
        "tier": descriptor.tier_name,
        "priority": descriptor.priority,
        "copies": verification.copies,
        "quorum": verification.quorum,
        "policy": verification.policy,
        "spot_share": spot_share_of(descriptor) if verification.policy == RedundancyPolicy.SPOT else None,
        "replicas_max": cost.replicas_max,
        "estimated_flops": descriptor.estimated_flops,
        "credit_rate_micro": cost.rate_micro,
        "reserved_micro": cost.reserved_micro,
        "visibility": descriptor.visibility,
        "queue_deadline_at": timezone.now() + timedelta(seconds=descriptor.queue_deadline_seconds),
    }


def same_jobs_check(array: JobArray, known: Mapping[str, _Known]) -> None:
    """Raises LabelConflictError where one of these jobs has other content than that of the array."""
    conflicts = [(index, one) for index, one in enumerate(array.jobs) if one.label in known and known[one.label].digest != one.digest]
    if not conflicts:
        return
    label = conflicts[0][1].label
    first = known[label]
    more = f" The same holds for {counted(len(conflicts) - 1, 'other')}; `errors` names them." if len(conflicts) > 1 else ""
    raise LabelConflictError(
        f"You have a job {label!r} with other content, submitted {first.submitted_at:%Y-%m-%d %H:%M} UTC. Use a new job_id.{more}",
        job=str(first.id),
        descriptor_digest=first.digest,
        errors=[
            {
                "path": array.place(index, "job_id"),
                "code": LabelConflictError.code,
                "message": f"The job {known[one.label].id} of this job_id has other content.",
            }
            for index, one in conflicts[:CONFLICTS_MAX]
        ],
    )


def _insufficient(count: int, each_micro: int, balance_micro: int) -> CreditsInsufficientError:
    return CreditsInsufficientError(
        f"Together {counted(count, 'new job')} would reserve up to {count * each_micro / 1e6:.6f} credits; "
        f"your balance is {balance_micro / 1e6:.6f}. "
        "Earn some with a node, ask a moderator for a grant, send fewer, or lower estimated_flops, copies or credit_rate.",
        needed_micro=str(count * each_micro),
        balance_micro=str(balance_micro),
    )


def _fetched(array: JobArray, new: Iterable[PlannedJob], policy: FetchPolicy) -> dict[str, Blob]:
    """What comes from `input_uri`, by path; empty without one."""
    uri = array.shared.input_uri
    return {} if uri is None else inputs_fetch(uri=uri, paths=(path for one in new for path in one.input_files), policy=policy)


def _inputs_resolve(owner: User, array: JobArray, new: Sequence[PlannedJob], fetched: Mapping[str, Blob]) -> dict[str, dict[str, Blob]]:
    """Each job's inputs by label and path: fetched ones, and uploads that this owner has committed.

    Raises InputUnknownError, InputMismatchError.
    """
    wanted = {each.digest for one in new for each in one.inputs}
    if not wanted and not fetched:
        return {}
    blobs = blobs_uploaded(owner=owner, digests=wanted)
    index_of = {one.label: index for index, one in enumerate(array.jobs)}
    return {one.label: _job_inputs(array, index_of[one.label], one, fetched, blobs) for one in new}


def blobs_uploaded(*, owner: User, digests: Iterable[str]) -> dict[str, Blob]:
    """What `owner` has uploaded of these, by digest, without the bytes."""
    uploads = Upload.objects.filter(user=owner, digest__in=list(digests), committed_at__isnull=False)
    return Blob.objects.defer("data").in_bulk(list(uploads.values_list("digest", flat=True)))


def _job_inputs(array: JobArray, index: int, one: PlannedJob, fetched: Mapping[str, Blob], uploaded: Mapping[str, Blob]) -> dict[str, Blob]:
    resolved = {path: fetched[path] for path in one.input_files if path in fetched}
    for number, each in enumerate(one.inputs):
        place = array.input_place(index, number)
        resolved[each.path] = input_check(each, place, resolved.get(each.path) or uploaded.get(each.digest))
    total_bytes = sum(blob.size_bytes for blob in resolved.values())
    if total_bytes > settings.NEXA_UPLOAD_BYTES_MAX:
        raise InputMismatchError(
            f"Inputs may have {settings.NEXA_UPLOAD_BYTES_MAX} bytes together; these of {one.label!r} have {total_bytes}."
        )
    return resolved


def input_check(wanted: InputFile, place: str, found: Blob | None) -> Blob:
    """`found`, if it is the input that stands at the JSON pointer `place`. Raises InputUnknownError, InputMismatchError."""
    if found is None:
        message = f"you have no finished upload with the digest {wanted.digest}. Upload the file, then submit again."
        raise _input_error(InputUnknownError, wanted.path, place, message, digest=wanted.digest)
    if found.digest != wanted.digest:
        message = f"expected bytes with the digest {wanted.digest}; found {found.digest}."
        raise _input_error(InputMismatchError, wanted.path, place, message)
    if wanted.size_bytes is not None and wanted.size_bytes != found.size_bytes:
        message = f"expected {wanted.size_bytes} bytes; the blob has {found.size_bytes}. Correct size_bytes."
        raise _input_error(InputMismatchError, wanted.path, place, message)
    return found


def _input_error(kind: type[InputErrorT], path: str, place: str, message: str, **extra: str) -> InputErrorT:
    """About the input `path`, which stands at the JSON pointer `place`."""
    whole = f"{path}: {message}"
    return kind(whole, path=path, errors=[{"path": place, "code": kind.code, "message": whole}], **extra)
