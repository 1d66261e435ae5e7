"""How much is kept for one person (NEXA_STORED_BYTES_MAX): uploads, inputs of their jobs, results and logs, each blob once.

At an upload it is counted exactly, with what is announced. A submission only looks whether the limit is reached, at a figure that may be
a minute old: what results will have is known when they come, and results that were paid for are never refused.
"""

from __future__ import annotations

from typing import ClassVar, Final

from django.conf import settings
from django.core.cache import cache
from django.template.defaultfilters import filesizeformat
from redis.exceptions import RedisError

from jobs.blobs.references import bytes_kept_for
from people.models import User
from workers.protocol.problems import ProblemError

_KNOWN_SECONDS: Final = 60


class StorageFullError(ProblemError):
    """More bytes would be kept for this person than the portal keeps for one."""

    code: ClassVar[str] = "storage_full"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "Your storage is full"


def storage_check(*, user: User, more_bytes: int) -> None:
    """Raises StorageFullError if `more_bytes` would go beyond the limit; counts exactly."""
    if settings.NEXA_STORED_BYTES_MAX:
        _check(bytes_kept_for(user), more_bytes)


def storage_check_roughly(*, user: User) -> None:
    """Raises StorageFullError if the limit was reached a minute ago or since."""
    if settings.NEXA_STORED_BYTES_MAX:
        _check(bytes_kept_lately(user), 1)


def bytes_kept_lately(user: User) -> int:
    """What is kept for a person, at most a minute old."""
    key = f"bytes-kept:{user.pk}"
    try:
        known = cache.get(key)
        if known is None:
            known = bytes_kept_for(user)
            cache.set(key, known, timeout=_KNOWN_SECONDS)
    except RedisError:
        return bytes_kept_for(user)
    return int(known)


def _check(kept_bytes: int, more_bytes: int) -> None:
    limit_bytes = settings.NEXA_STORED_BYTES_MAX
    if kept_bytes + more_bytes > limit_bytes:
        raise StorageFullError(
            f"{filesizeformat(kept_bytes)} of at most {filesizeformat(limit_bytes)} are kept for you: uploads, inputs and results. "
            "Cancel uploads that you don't need, and let go of results that you keep, or ask the operator for more.",
            kept_bytes=kept_bytes,
            limit_bytes=limit_bytes,
        )
