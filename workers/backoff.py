"""How long to wait before trying again: exponential, with full jitter, so that a fleet does not return in step after an outage."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 60.0


class Backoff:
    """One series of tries at one thing. Not a retry loop: the caller waits, and knows what may interrupt the wait."""

    def __init__(self, *, longest_seconds: float = LONGEST_SECONDS, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._longest_seconds = longest_seconds
        self._uniform = uniform
        self._failures = 0

    def failed(self, *, at_least_seconds: float = 0.0) -> float:
        """Count a failure; the seconds to wait now: between a tenth of the step and the whole of it, steps doubling.

        `at_least_seconds`, which the other side asked of everybody, come before that: who waits for the same is spread as well.
        """
        step = min(self._longest_seconds, FIRST_SECONDS * 2 ** min(self._failures, 20))
        self._failures += 1
        return at_least_seconds + self._uniform(step / 10, step)

    def worked(self) -> None:
        """Start anew."""
        self._failures = 0
