"""Approval of images: what researchers may run, by name, pinned to content."""

from __future__ import annotations

from jobs.errors import ImageMalformedError
from jobs.images import approval_name_parse, reference_parse
from jobs.models import ImageApproval
from people.models import User
from workers.protocol.digests import digest_parse
from workers.protocol.errors import DigestMalformedError


def image_approve(*, name: str, pull: str = "", image_id: str = "", approved_by: User | None = None) -> ImageApproval:
    """Approves `name` or `name:tag`, pinned by `pull` (`name@sha256:…`), by `image_id`, both, or not at all; replaces an older pin.

    Raises ImageMalformedError.
    """
    stored = approval_name_parse(name)
    values = {"pull": pull_check(pull), "image_id": image_id_check(image_id), "approved_by": approved_by}
    return ImageApproval.objects.update_or_create(name=stored, defaults=values)[0]


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
