"""Approval of images: what researchers may run, by name, pinned to content."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from jobs.errors import ImageMalformedError
from jobs.models import ImageApproval
from jobs.submission.images import approval_name_parse, reference_parse
from people.errors import ActPointlessError
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record
from workers.protocol.digests import digest_parse
from workers.protocol.errors import DigestMalformedError


@transaction.atomic
def image_approve(*, name: str, pull: str = "", image_id: str = "", by: User | None, reason: str) -> ImageApproval:
    """Approves `name` or `name:tag`, pinned by `pull` (`name@sha256:…`), by `image_id`, both, or not at all; replaces an older pin.

    `by` None: the operator, by a management command. Raises ImageMalformedError, and as people.moderation.trail.act_record.
    """
    stored = approval_name_parse(name)
    values = {"pull": pull_check(pull), "image_id": image_id_check(image_id), "approved_by": by}
    approval, _ = ImageApproval.objects.update_or_create(name=stored, defaults={**values, "approved_at": timezone.now()})
    detail = {"pull": approval.pull, "image_id": approval.image_id}
    act_record(by=by, kind=ActKind.IMAGE_APPROVED, about=approval, reason=reason, detail=detail)
    return approval


@transaction.atomic
def image_withdraw(*, approval: ImageApproval, by: User, reason: str) -> None:
    """Nobody submits jobs with the image any more. Jobs that were submitted go on: they are pinned to what was approved then.

    Raises ActPointlessError, and as people.moderation.trail.act_record.
    """
    locked = ImageApproval.objects.select_for_update().filter(pk=approval.pk).first()
    if locked is None:
        raise ActPointlessError("The approval was withdrawn before.")
    act_record(by=by, kind=ActKind.IMAGE_WITHDRAWN, about=locked, reason=reason, detail={"pull": locked.pull, "image_id": locked.image_id})
    locked.delete()


def pull_check(pull: str) -> str:
    """`pull` if it is empty or a reference by digest. Raises ImageMalformedError."""
    if pull and reference_parse(pull).digest is None:
        raise ImageMalformedError(f"Expected name@sha256:<64 hex digits> to pull by; found {pull[:120]!r}.")
    return pull


def image_id_check(image_id: str) -> str:
    """`image_id` if it is empty or a digest. Raises ImageMalformedError."""
    try:
        if image_id:
            digest_parse(image_id)
    except DigestMalformedError as error:
        raise ImageMalformedError(f"Image id: {error}") from error
    return image_id
