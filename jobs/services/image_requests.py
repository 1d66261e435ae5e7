"""Researchers ask for images, and moderators decide. Approving one is an approval like any other, which answers all who asked for it."""

from __future__ import annotations

from typing import Final

from django.db import transaction
from django.utils import timezone

from jobs.errors import ImageRequestOpenError, ResearcherRequiredError
from jobs.models import ImageApproval, ImageRequest
from jobs.services.approvals import image_approve
from jobs.submission.images import approval_name_parse
from people.errors import ActPointlessError
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record, interest_check
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write

OPEN_MAX: Final = 20
"""Open requests of one person."""


@transaction.atomic
def image_request(*, by: User, name: str, purpose: str) -> ImageRequest:
    """Asks for an image, once as long as nobody has decided. Raises ResearcherRequiredError, ImageMalformedError, ImageRequestOpenError."""
    if not (by.is_active and by.is_researcher):
        raise ResearcherRequiredError("Images are approved for researchers. Apply to be one first.")
    stored = approval_name_parse(name.strip())
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    waiting = ImageRequest.objects.filter(asked_by=by, is_approved=None)
    if waiting.filter(name=stored).exists():
        raise ImageRequestOpenError(f"You have asked for {stored} already, and nobody has decided yet. You are told when somebody has.")
    if waiting.count() >= OPEN_MAX:
        raise ImageRequestOpenError(f"{OPEN_MAX} requests of yours wait for a decision already. Wait for one before you ask for more.")
    return ImageRequest.objects.create(name=stored, asked_by=by, purpose=purpose.strip())


@transaction.atomic
def image_request_approve(*, request: ImageRequest, by: User, pull: str, image_id: str, reason: str) -> ImageApproval:
    """Approves the image that was asked for, for everybody, and answers everybody who asked.

    Raises ActPointlessError, ModeratorInterestError, ImageMalformedError and as people.moderation.trail.act_record.
    """
    locked = _open(request, by)
    approval = image_approve(name=locked.name, pull=pull, image_id=image_id, by=by, reason=reason)
    for one in ImageRequest.objects.select_for_update().filter(name=locked.name, is_approved=None).order_by("pk"):
        _decide(one, is_approved=True, reason=reason)
    return approval


@transaction.atomic
def image_request_decline(*, request: ImageRequest, by: User, reason: str) -> None:
    """Tells who asked why not. Raises ActPointlessError, ModeratorInterestError and as people.moderation.trail.act_record."""
    locked = _open(request, by)
    act_record(by=by, kind=ActKind.IMAGE_DECLINED, about=locked, reason=reason)
    _decide(locked, is_approved=False, reason=reason)


def _open(request: ImageRequest, by: User) -> ImageRequest:
    locked = ImageRequest.objects.select_for_update(of=("self",)).select_related("asked_by").get(pk=request.pk)
    interest_check(by, in_account_of=locked.asked_by)
    if locked.is_approved is not None:
        raise ActPointlessError(f"It was decided at {locked.decided_at:%Y-%m-%d %H:%M} UTC.")
    return locked


def _decide(request: ImageRequest, *, is_approved: bool, reason: str) -> None:
    request.is_approved, request.reason, request.decided_at = is_approved, reason.strip(), timezone.now()
    request.save(update_fields=["is_approved", "reason", "decided_at"])
    subject = f"The image {request.name[:120]} was {'approved' if is_approved else 'declined'}"
    key = f"image-request:{request.pk}"
    notifications_write([Draft(request.asked_by_id, NotificationKind.APPLICATION, key, subject, "/jobs/images/", request.reason)])
