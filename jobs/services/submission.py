"""Submission and cancellation of jobs.

One transaction writes job, inputs, reservation, replicas and event, or nothing. The unique (owner, label) row decides races: of two
identical submissions at once, one writes and the other finds what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs.descriptor import Descriptor, descriptor_digest, descriptor_document
from jobs.errors import (
    InputMismatchError,
    InputUnknownError,
    JobConcludedError,
    JobDisputedError,
    LabelConflictError,
    RequirementsImpossibleError,
    ResearcherRequiredError,
)
from jobs.images import image_resolve
from jobs.inputs import FetchPolicy, inputs_fetch
from jobs.models import Blob, Job, JobInput, Upload
from jobs.nudges import exchanges_wake
from jobs.requirements import LARGEST, gpu_memory_ceiling, shortfalls_of, tier_fitting
from jobs.selectors import largest_node
from jobs.services.closing import job_close
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import event_record
from jobs.states import JOB_TERMINAL, JobState
from ledger.services import account_of, reservation_post
from nodes.tiers import TIER_FLOORS
from people.models import User
from workers.protocol.pay import MICRO, payment_micro, reservation_micro

REPLICAS_MAX = 32


def job_submit(*, owner: User, descriptor: Descriptor, policy: FetchPolicy | None = None) -> tuple[Job, bool]:
    """Queues a job; (job, True), or (the job of before, False) for the same label and content. Inputs are fetched first.

    Raises ResearcherRequiredError, LabelConflictError, RequirementsImpossibleError, the image and input errors of jobs.errors, and
    CreditsInsufficientError. `policy` None: as the settings say.
    """
    if not (owner.is_active and owner.is_researcher):
        raise ResearcherRequiredError(
            "Submitting runs programs on other people's machines. Ask the operator to approve you as a researcher."
        )
    digest = descriptor_digest(descriptor)
    if (existing := Job.objects.filter(owner=owner, label=descriptor.job_id).first()) is not None:
        return _same_job(existing, digest), False
    requirements_check(descriptor)
    image = image_resolve(descriptor.docker_image)
    fetched = inputs_fetch(descriptor=descriptor, policy=policy or FetchPolicy.from_settings())
    reserved_micro, _, replicas_max = job_cost(descriptor)
    with transaction.atomic():
        inputs = _inputs_resolve(owner, descriptor, fetched)
        job = Job(
            owner=owner,
            label=descriptor.job_id,
            job_type=descriptor.type,
            descriptor=descriptor_document(descriptor),
            descriptor_digest=digest,
            image=image.model_dump(mode="json"),
            tier=descriptor.tier_name,
            priority=descriptor.priority,
            copies=descriptor.verification.copies,
            quorum=descriptor.verification.quorum,
            replicas_max=replicas_max,
            estimated_flops=descriptor.estimated_flops,
            credit_rate_micro=_rate_micro(descriptor),
            reserved_micro=reserved_micro,
            queue_deadline_at=timezone.now() + timedelta(seconds=descriptor.queue_deadline_seconds),
        )
        # Waits for an unfinished submission of the same label, then writes nothing if that one was committed.
        Job.objects.bulk_create([job], ignore_conflicts=True)
        stored = Job.objects.get(owner=owner, label=descriptor.job_id)
        if stored.pk != job.pk:
            return _same_job(stored, digest), False
        JobInput.objects.bulk_create(JobInput(job=stored, path=path, blob=blob) for path, blob in sorted(inputs.items()))
        reservation_post(account=account_of(user=owner), job_id=stored.pk, amount_micro=reserved_micro)
        # In this order, as what is asked for first happens first after the commit: a waiting host comes before whoever watches.
        replicas_queue(job=stored, count=stored.copies)
        event_record(job=stored, kind="job.queued", payload={"tier": stored.tier, "copies": stored.copies})
    return stored, True


def job_cost(descriptor: Descriptor) -> tuple[int, int, int]:
    """(what is reserved, what `copies` replicas earn if the estimate is right, the most replicas): credits in millionths.

    Beside its copies a job may use as many replicas again as its quorum, at least one, where results disagree or are invalid.
    """
    verification, rate_micro = descriptor.verification, _rate_micro(descriptor)
    replicas_max = min(REPLICAS_MAX, verification.copies + max(1, verification.quorum))
    reserved = reservation_micro(estimated_flops=descriptor.estimated_flops, rate_micro=rate_micro, replicas_max=replicas_max)
    each = payment_micro(estimated_flops=descriptor.estimated_flops, calibration_ratio=1.0, rate_micro=rate_micro)
    return reserved, each * verification.copies, replicas_max


def job_cancel(*, job: Job, by: User) -> Job:
    """Ends an open job and gives its reservation back; hosts are told by their next exchange. A cancelled job stays as it is.

    Raises JobConcludedError, JobDisputedError.
    """
    with transaction.atomic():
        locked = Job.objects.select_for_update().get(pk=job.pk)
        state = JobState(locked.state)
        if state == JobState.CANCELLED:
            return locked
        if state in JOB_TERMINAL:
            raise JobConcludedError(f"The job is {state}; only a job that has not ended can be cancelled.", state=state.value)
        if state == JobState.DISPUTED:
            raise JobDisputedError("Hosts have delivered and disagree; wait for the ruling, which ends the job.")
        job_close(job=locked, to=JobState.CANCELLED, code="cancelled", message=f"Cancelled by {by.username}.")
        transaction.on_commit(lambda: exchanges_wake([locked.tier]))
    return locked


def requirements_check(descriptor: Descriptor) -> None:
    """Raises RequirementsImpossibleError, naming the largest tier, its bounds, and the largest node registered in it now."""
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
            {"path": f"/requirements/{each.field}", "code": "requirements_impossible", "message": each.sentence()} for each in shortfalls
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


def _rate_micro(descriptor: Descriptor) -> int:
    return round(descriptor.credit_rate * MICRO)


def _same_job(job: Job, digest: str) -> Job:
    if job.descriptor_digest != digest:
        raise LabelConflictError(
            f"You have a job {job.label!r} with other content, submitted {job.submitted_at:%Y-%m-%d %H:%M} UTC. Use a new job_id.",
            job=str(job.pk),
            descriptor_digest=job.descriptor_digest,
        )
    return job


def _inputs_resolve(owner: User, descriptor: Descriptor, fetched: Mapping[str, Blob]) -> dict[str, Blob]:
    """Every input by path: fetched ones, and uploads that this owner has committed. Raises InputUnknownError, InputMismatchError."""
    wanted = [each for each in descriptor.inputs if each.path not in fetched]
    uploads = Upload.objects.filter(user=owner, digest__in={each.digest for each in wanted}, committed_at__isnull=False)
    blobs = Blob.objects.in_bulk(list(uploads.values_list("digest", flat=True)))
    resolved = dict(fetched)
    for each in wanted:
        if each.digest not in blobs:
            raise InputUnknownError(
                f"{each.path}: you have no finished upload with the digest {each.digest}. Upload the file, then submit again.",
                path=each.path,
                digest=each.digest,
            )
        resolved[each.path] = blobs[each.digest]
    for each in descriptor.inputs:
        found = resolved[each.path].size_bytes
        if each.size_bytes is not None and each.size_bytes != found:
            raise InputMismatchError(
                f"{each.path}: expected {each.size_bytes} bytes; the blob has {found}. Correct size_bytes.", path=each.path
            )
    total_bytes = sum(blob.size_bytes for blob in resolved.values())
    if total_bytes > settings.NEXA_UPLOAD_BYTES_MAX:
        raise InputMismatchError(f"Inputs may have {settings.NEXA_UPLOAD_BYTES_MAX} bytes together; these have {total_bytes}.")
    return resolved
