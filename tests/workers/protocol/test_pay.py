"""The credit formula, against the sentences of workers/protocol/pay.py."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.pay import CLIP_FACTOR, FLOPS_PER_CREDIT, MICRO, payment_micro, reservation_micro

flops = st.floats(min_value=1e-3, max_value=1e22)
rates = st.integers(min_value=0, max_value=1000 * MICRO)
ratios = st.floats(min_value=0, max_value=1e12)


def test_one_tflop_hour_at_rate_one_is_one_credit() -> None:
    assert payment_micro(estimated_flops=FLOPS_PER_CREDIT, calibration_ratio=1.0, rate_micro=MICRO) == MICRO


def test_reservation_is_the_upper_clip_for_each_replica() -> None:
    assert reservation_micro(estimated_flops=FLOPS_PER_CREDIT, rate_micro=MICRO, replicas_max=3) == 3 * CLIP_FACTOR * MICRO


@pytest.mark.parametrize(("ratio", "paid"), [(0.0, MICRO // 4), (0.25, MICRO // 4), (0.5, MICRO // 2), (2.0, 2 * MICRO), (1e9, 4 * MICRO)])
def test_ratio_is_clipped_to_a_factor_of_four(ratio: float, paid: int) -> None:
    assert payment_micro(estimated_flops=FLOPS_PER_CREDIT, calibration_ratio=ratio, rate_micro=MICRO) == paid


def test_smallest_work_is_paid_one_millionth() -> None:
    assert payment_micro(estimated_flops=1.0, calibration_ratio=1.0, rate_micro=1) == 1
    assert reservation_micro(estimated_flops=1.0, rate_micro=0, replicas_max=5) == 5


@given(flops=flops, rate=rates, ratio=ratios, replicas=st.integers(1, 32))
def test_payment_never_exceeds_its_share_of_the_reservation(flops: float, rate: int, ratio: float, replicas: int) -> None:
    reserved = reservation_micro(estimated_flops=flops, rate_micro=rate, replicas_max=replicas)
    paid = payment_micro(estimated_flops=flops, calibration_ratio=ratio, rate_micro=rate)
    assert paid >= 1
    assert paid * replicas <= reserved


@given(flops=flops, rate=rates, one=ratios, other=ratios)
def test_payment_grows_with_the_ratio(flops: float, rate: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert payment_micro(estimated_flops=flops, calibration_ratio=low, rate_micro=rate) <= payment_micro(
        estimated_flops=flops, calibration_ratio=high, rate_micro=rate
    )


@given(flops=flops, rate=rates)
def test_rounding_loses_less_than_a_millionth(flops: float, rate: int) -> None:
    exact = Fraction(flops) * rate / FLOPS_PER_CREDIT
    assert 0 <= exact - payment_micro(estimated_flops=flops, calibration_ratio=1.0, rate_micro=rate) < 1 or exact < 1


@pytest.mark.parametrize(("estimated", "rate"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, -1)])
def test_impossible_estimates_and_rates_are_refused(estimated: float, rate: int) -> None:
    with pytest.raises(ValueError, match="expected positive FLOPs"):
        payment_micro(estimated_flops=estimated, calibration_ratio=1.0, rate_micro=rate)
    with pytest.raises(ValueError, match="expected positive FLOPs"):
        reservation_micro(estimated_flops=estimated, rate_micro=rate, replicas_max=1)
