"""What a result is worth. Pure, public, and the same for everybody: an auditor recomputes it from the log.

1. One credit is one TFLOP/s for an hour: 3.6e15 floating point operations. Amounts are whole millionths of a credit.
2. Paid work is the job's estimate times a calibration ratio: what agreeing replicas measured over what was estimated, for this image and
   type. A host's own claim only feeds the calibration, so claiming more gains nothing.
3. The ratio is clipped to CLIP_FACTOR either way, so the worst case is known at submission and reserved then.
4. Reservations round up, payments round down: a payment never exceeds its share of the reservation.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Final

MICRO: Final = 1_000_000
FLOPS_PER_CREDIT: Final = 3_600_000_000_000_000
CLIP_FACTOR: Final = 4


def reservation_micro(*, estimated_flops: float, rate_micro: int, replicas_max: int) -> int:
    """The worst case of a job, in millionths of a credit: every replica it may use, each at the upper clip. At least 1 a replica."""
    return replicas_max * max(1, ceil(_worth(estimated_flops, rate_micro) * CLIP_FACTOR))


def payment_micro(*, estimated_flops: float, calibration_ratio: float, rate_micro: int) -> int:
    """What one agreeing replica earns, in millionths of a credit; at least 1, so that no accepted work goes unrecorded.

    `calibration_ratio` is measured over estimated FLOPs (1.0 where nothing was measured yet) and is clipped here.
    """
    ratio = min(max(Fraction(calibration_ratio), Fraction(1, CLIP_FACTOR)), Fraction(CLIP_FACTOR))
    return max(1, floor(_worth(estimated_flops, rate_micro) * ratio))


def _worth(estimated_flops: float, rate_micro: int) -> Fraction:
    """Millionths of a credit for the estimate as it stands. Exact: the same on every machine."""
    if not estimated_flops > 0 or rate_micro < 0:
        raise ValueError(f"expected positive FLOPs and a rate of at least 0; found {estimated_flops} and {rate_micro}")
    return Fraction(estimated_flops) * rate_micro / FLOPS_PER_CREDIT
