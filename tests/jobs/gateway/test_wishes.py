"""Wishes over HTTP: what a host asks not to be offered is not offered, and its contributor hears why there is no work."""

from __future__ import annotations

import pytest

from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost


@pytest.mark.django_db
class TestWishes:
    def test_a_job_that_is_not_wished_for_stays_queued_and_the_reason_is_told(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        answer = host.exchange(wishes={"images": ["trusted.example.org/*"]}).json()
        assert (answer["orders"], answer["no_work"]["code"]) == ([], "none_wished")
        assert "all is of images that this host does not allow" in answer["no_work"]["message"]
        assert [replica.state for replica in job.replicas.all()] == ["queued"]

    def test_a_job_that_is_wished_for_is_given_with_what_it_offers(self) -> None:
        queued_job(job_type="chemistry.md", credit_rate_micro=1_500_000)
        order = SimulatedHost().order(wishes={"images": ["*"], "job_types": ["chemistry.*"], "credit_rate_min": 1.5})
        assert (order.job_type, order.credit_rate_micro) == ("chemistry.md", 1_500_000)

    @pytest.mark.parametrize("wishes", [{"images": ["a?"]}, {"images": ["*"] * 33}, {"credit_rate_min": -1}, {"science": ["*"]}])
    def test_wishes_that_are_none_are_refused(self, wishes: dict[str, object]) -> None:
        answer = SimulatedHost().exchange(wishes=wishes)
        assert (answer.status_code, answer.json()["code"]) == (400, "message_invalid")
