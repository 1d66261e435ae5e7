"""Why there is no work: true, and nothing from which a host or its owner could learn that a job runs elsewhere too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobs.matching.no_work import no_work_reason
from jobs.models import JobKind, Replica
from jobs.services.replicas import replicas_queue
from jobs.states import ReplicaState
from nodes.models import Node, NodeState
from nodes.services import node_pause
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost
from tests.jobs.matching.test_claims import ANYTHING, GIB, claim, free_make
from workers.protocol.messages.exchange import Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode

pytestmark = pytest.mark.django_db


def reason_of(node: Node, *, wanted: tuple[Tier, ...] = (Tier.CPU,), wishes: Wishes = ANYTHING, **free: Any) -> tuple[str, str]:
    found = no_work_reason(node=node, wanted=wanted, free=free_make(**free), wishes=wishes)
    return found.code, found.message


class TestReasons:
    def test_an_empty_queue_says_which_tiers_have_work(self) -> None:
        queued_job(tier="gpu-tier2", descriptor={"tier": 2})
        code, message = reason_of(node_make(user_make())[0])
        assert code == "no_jobs_queued"
        assert "gpu-tier2" in message

    def test_a_small_host_hears_what_is_missing(self) -> None:
        queued_job()
        code, message = reason_of(node_make(user_make())[0], cpus=0.5, memory_bytes=GIB // 2)
        assert code == "none_fits"
        assert "0.5 free cores (the least: 1)" in message
        assert "0.5 GiB of free memory (the least: " in message

    def test_gpus_missing_are_named(self) -> None:
        queued_job(tier="gpu-tier1", descriptor={"tier": 1})
        code, message = reason_of(node_make(user_make(), tier=Tier.GPU_TIER1)[0], wanted=(Tier.GPU_TIER1,))
        assert (code, "GPUs" in message) == ("none_fits", True)

    def test_what_the_contributor_does_not_wish_for_is_counted(self) -> None:
        queued_job(credit_rate_micro=1_500_000)
        queued_job(job_type="chemistry.md")
        node, _ = node_make(user_make())
        code, message = reason_of(node, wishes=Wishes(images=("trusted.example.org/*",), job_types=("test",), credit_rate_min=1.25))
        assert code == "none_wished"
        assert message == (
            "Of what is queued for cpu: all is of images that this host does not allow; "
            "some is of job types that this host does not allow; "
            "some offers less than the 1.25 credits that this host asks for (the most: 1.5)."
        )
        code, message = reason_of(node, wishes=Wishes(job_types=("chemistry.*",)), cpus=0.5)
        assert code == "none_fits"
        assert "some is of job types that this host does not allow; all needs more than the 0.5 free cores" in message
        assert reason_of(node, wishes=Wishes(job_types=("test",)))[0] == "taken_by_others"

    def test_images_that_fail_everywhere_are_named(self) -> None:
        queued_job()
        JobKind.objects.update(closed_until=timezone.now() + timedelta(minutes=1))
        code, message = reason_of(node_make(user_make())[0])
        assert (code, "all is of images whose runs fail everywhere" in message) == ("images_closed", True)
        queued_job(job_type="chemistry.md", descriptor={"limits": {"cpus": 64, "memory_mb": 1024, "disk_mb": 1024, "output_mb": 100}})
        assert reason_of(node_make(user_make())[0])[0] == "none_fits"

    def test_a_queue_that_is_not_served(self) -> None:
        assert reason_of(node_make(user_make())[0], wanted=(Tier.GPU_TIER3,))[0] == "queue_not_served"

    def test_states_of_the_node_come_first(self) -> None:
        queued_job()
        node, _ = node_make(user_make())
        node_pause(node=node)
        node.refresh_from_db()
        assert claim(node) == []
        assert reason_of(node)[0] == "node_paused"
        node.state = NodeState.QUARANTINED
        assert reason_of(node)[0] == "node_quarantined"
        node.state = NodeState.REVOKED
        assert reason_of(node)[0] == "node_revoked"

    def test_something_that_fits_is_said_to_be_taken(self) -> None:
        queued_job()
        assert reason_of(node_make(user_make())[0])[0] == "taken_by_others"


class TestSecrecy:
    """A second copy, or a substitute, of a job that this owner had is to the owner as if it were not there."""

    def told(self, node: Node, **fields: Any) -> list[Any]:
        wanted = [(Tier.CPU,), tuple(Tier), (Tier.GPU_TIER1,)]
        return [reason_of(node, wanted=tiers, **fields) for tiers in wanted] + [claim(node, wanted=tiers, **fields) for tiers in wanted]

    @pytest.mark.parametrize("cpus", [8, 0.5], ids=["fits", "too_small"])
    @pytest.mark.parametrize("others", [0, 1], ids=["nothing_else", "something_else"])
    def test_a_second_copy_of_an_owners_job_is_not_told_of(self, cpus: float, others: int) -> None:
        job = queued_job()
        owner = user_make()
        node = node_make(owner, tier=Tier.GPU_TIER1)[0]
        nodes = [node, node_make(owner, tier=Tier.GPU_TIER1)[0]]
        assert len(claim(node)) == 1
        for _ in range(others):
            queued_job(descriptor={"limits": {"cpus": 64, "memory_mb": 1024, "disk_mb": 1024, "output_mb": 100}})
        alone = [self.told(one, cpus=cpus) for one in nodes]
        replicas_queue(job=job, count=2)
        assert [self.told(one, cpus=cpus) for one in nodes] == alone

    @pytest.mark.parametrize("state", [ReplicaState.RUNNING, ReplicaState.REPORTED, ReplicaState.ACCEPTED, ReplicaState.REJECTED])
    def test_nor_later(self, state: ReplicaState) -> None:
        job = queued_job()
        node, _ = node_make(user_make())
        [taken] = claim(node)
        alone = self.told(node)
        Replica.objects.filter(pk=taken.pk).update(state=state)
        replicas_queue(job=job, count=1)
        assert self.told(node) == alone

    def test_a_substitute_of_a_job_that_failed_here_is_not_told_of(self) -> None:
        """That there is one tells that the failure was not believed, hence that others are asked."""
        job = queued_job()
        node, _ = node_make(user_make())
        [taken] = claim(node)
        Replica.objects.filter(pk=taken.pk).update(state=ReplicaState.FAILED, failure_code=FailureCode.EXIT_NONZERO)
        alone = self.told(node)
        replicas_queue(job=job, count=1)
        assert self.told(node) == alone

    def test_an_exchange_answers_alike_whether_or_not_another_copy_runs(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order = host.order()
        lease = {"lease_id": str(order.lease_id), "stage": "running", "elapsed_seconds": 1}

        def told() -> dict[str, Any]:
            answer = host.exchange(leases=[lease]).json()
            assert len(answer.pop("renewed")) == 1
            return {name: value for name, value in answer.items() if name not in {"request_id", "server_time"}}

        alone = told()
        replicas_queue(job=job, count=1)
        assert told() == alone
        other = SimulatedHost().order()
        assert other.lease_id != order.lease_id
        assert told() == alone
        Replica.objects.filter(lease_id=other.lease_id).update(state=ReplicaState.REPORTED)
        assert told() == alone
