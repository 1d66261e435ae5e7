"""Jobs for tests, and what they need to be submitted."""

from __future__ import annotations

import io
import itertools
from typing import Any

from django.utils import timezone

from jobs.blobs import blob_write
from jobs.descriptor import descriptor_parse
from jobs.models import Blob, ImageApproval, Job, Upload
from jobs.services.submission import job_submit
from ledger.services import account_of, grant_post
from people.models import User
from tests.factories.people import researcher_make

IMAGE_NAME = "example/science"
IMAGE_ID = "sha256:" + "ab" * 32
_numbers = itertools.count(1)


def descriptor_make(**overrides: Any) -> dict[str, Any]:
    """The JSON object of a small cpu job without inputs; `overrides` replace or add top-level fields."""
    return {
        "schema_version": "1.0",
        "job_id": f"job-{next(_numbers)}",
        "type": "test",
        "docker_image": f"{IMAGE_NAME}:1.0",
        "estimated_flops": 3.6e12,
        **overrides,
    }


def image_approve(name: str = f"{IMAGE_NAME}:1.0", *, pull: str = "", image_id: str = IMAGE_ID) -> ImageApproval:
    """An approval, pinned unless `image_id` is emptied; the existing one if there is one of that name."""
    return ImageApproval.objects.get_or_create(name=name, defaults={"pull": pull, "image_id": image_id})[0]


def credits_grant(user: User, amount_micro: int = 10_000_000) -> None:
    """Credits on the account of `user`, from the treasury."""
    grant_post(to=account_of(user=user), amount_micro=amount_micro, reason="test", idempotency_key=f"test:{next(_numbers)}:{user.pk}")


def funded_researcher_make(username: str | None = None) -> User:
    """An approved researcher with 10 credits, and the image of `descriptor_make` approved."""
    image_approve()
    user = researcher_make(username)
    credits_grant(user)
    return user


def upload_make(owner: User, data: bytes) -> Blob:
    """A finished upload of `owner`."""
    blob = blob_write(io.BytesIO(data))
    values = {"size_bytes": blob.size_bytes, "offset_bytes": blob.size_bytes, "committed_at": timezone.now()}
    Upload.objects.get_or_create(user=owner, digest=blob.digest, defaults=values)
    return blob


def job_make(owner: User | None = None, **overrides: Any) -> Job:
    """A job as the submission service writes it: queued, reserved, with its replicas."""
    job, _ = job_submit(owner=owner or funded_researcher_make(), descriptor=descriptor_parse(descriptor_make(**overrides)))
    return job
