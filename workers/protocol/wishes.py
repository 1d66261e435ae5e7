"""Whether a contributor lets a job run here: one rule for the coordinator, which offers nothing else, and the host, which checks. Pure.

1. The image's name with its tag (`registry.example.org/group/name:1.0`) matches one of the patterns `images`.
2. The job's type matches one of the patterns `job_types`.
3. The job offers at least `credit_rate_min`, compared in whole millionths.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from workers.protocol.messages.exchange import Wishes


def pattern_matches(pattern: str, text: str) -> bool:
    """Whether all of `text` is what the pattern says. A Pattern has no other special character of fnmatch than `*`."""
    return fnmatchcase(text, pattern)


def wish_unmet(wishes: Wishes, *, image: str, job_type: str, credit_rate_micro: int) -> str | None:
    """Which wish this job does not meet, as the end of a sentence; None when it meets them all."""
    if not _any_matches(wishes.images, image):
        return f"the contributor does not allow the image {image!r} here"
    if not _any_matches(wishes.job_types, job_type):
        return f"the contributor does not allow jobs of the type {job_type!r} here"
    if credit_rate_micro < wishes.credit_rate_min_micro:
        return f"it offers {credit_rate_micro / 1e6:g} credits for 1 TFLOP/s-hour; the contributor asks for {wishes.credit_rate_min:g}"
    return None


def _any_matches(patterns: Iterable[str], text: str) -> bool:
    return any(pattern_matches(pattern, text) for pattern in patterns)
