"""What a job may cost, and how that comes about. Pure: the same numbers for the API, the pages and the reservation itself.

Beside its copies a job may use as many replicas again as its quorum, at least one, where results disagree or are invalid. A `spot` job
reserves as if it were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from jobs.descriptor import Descriptor, RedundancyPolicy
from jobs.descriptor.model import SPOT_SHARE_DEFAULT
from workers.protocol.pay import CLIP_FACTOR, MICRO, payment_micro, reservation_micro

REPLICAS_MAX: Final = 32
SPOT_COPIES: Final = 2
"""Copies, and quorum, of a `spot` job that is chosen."""


@dataclass(frozen=True)
class JobCost:
    """Amounts in millionths of a credit. `reserved_micro` is `replicas_max` times `worst_micro`."""

    estimated_flops: float
    rate_micro: int
    each_micro: int
    """What one replica earns if the estimate is right."""
    worst_micro: int
    """What one replica earns at the upper clip of the calibration, CLIP_FACTOR."""
    copies: int
    replicas_max: int
    runs: float
    """Replicas that are expected to be paid: the copies, or of a `spot` job one and its share."""
    reserved_micro: int
    expected_micro: int

    clip_factor: int = CLIP_FACTOR

    @property
    def replicas_more(self) -> int:
        """Replicas beyond the copies, for where results disagree."""
        return self.replicas_max - self.copies


def job_cost(descriptor: Descriptor) -> JobCost:
    """The cost of one job of this descriptor."""
    verification, rate_micro, flops = descriptor.verification, rate_micro_of(descriptor), descriptor.estimated_flops
    copies, quorum, runs = verification.copies, verification.quorum, float(verification.copies)
    if verification.policy == RedundancyPolicy.SPOT:
        copies = quorum = SPOT_COPIES
        runs = 1 + spot_share_of(descriptor) * (SPOT_COPIES - 1)
    replicas_max = min(REPLICAS_MAX, copies + max(1, quorum))
    each_micro = payment_micro(estimated_flops=flops, calibration_ratio=1.0, rate_micro=rate_micro)
    return JobCost(
        estimated_flops=flops,
        rate_micro=rate_micro,
        each_micro=each_micro,
        worst_micro=reservation_micro(estimated_flops=flops, rate_micro=rate_micro, replicas_max=1),
        copies=copies,
        replicas_max=replicas_max,
        runs=runs,
        reserved_micro=reservation_micro(estimated_flops=flops, rate_micro=rate_micro, replicas_max=replicas_max),
        expected_micro=round(each_micro * Fraction(runs)),
    )


def rate_micro_of(descriptor: Descriptor) -> int:
    """`credit_rate` in millionths."""
    return round(descriptor.credit_rate * MICRO)


def spot_share_of(descriptor: Descriptor) -> float:
    """The share of `spot` jobs that runs twice, also where the descriptor leaves it out."""
    return descriptor.verification.spot_share or SPOT_SHARE_DEFAULT
