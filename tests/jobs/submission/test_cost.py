"""The cost of a job: what is shown is what is reserved, step by step."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.descriptor import descriptor_parse
from jobs.submission.cost import job_cost
from tests.factories.jobs import descriptor_make


@given(st.floats(1, 1e22), st.floats(0.001, 1000), st.integers(1, 16), st.data())
def test_the_steps_multiply_to_the_reservation(flops: float, rate: float, copies: int, data: Any) -> None:
    quorum = data.draw(st.integers(1, copies))
    document = descriptor_make(estimated_flops=flops, credit_rate=rate, verification={"copies": copies, "quorum": quorum})
    cost = job_cost(descriptor_parse(document))
    assert cost.reserved_micro == cost.replicas_max * cost.worst_micro
    assert cost.worst_micro >= cost.each_micro >= 1
    assert (cost.copies, cost.copies + cost.replicas_more) == (copies, cost.replicas_max)
    assert cost.expected_micro == copies * cost.each_micro


def test_a_spot_job_reserves_as_if_it_were_chosen_and_expects_its_share() -> None:
    cost = job_cost(descriptor_parse(descriptor_make(estimated_flops=3.6e15, verification={"policy": "spot", "spot_share": 0.25})))
    assert (cost.copies, cost.replicas_max, cost.reserved_micro) == (2, 4, 16_000_000)
    assert (cost.runs, cost.expected_micro) == (1.25, 1_250_000)
