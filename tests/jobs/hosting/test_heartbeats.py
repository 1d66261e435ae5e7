"""What an exchange keeps of the machine: at most a sample a minute, in the statement that a heartbeat was anyway."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.services.heartbeats import node_heard
from nodes.models import Node, NodeSample
from nodes.services import NODE_SAMPLE_HOURS, node_drain, node_samples_forget
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost
from workers.protocol.messages.exchange import MachineLoad, NoWork

pytestmark = pytest.mark.django_db
LOAD = {"cpu_percent": 41.5, "memory_percent": 30.0, "gpu_percent": None, "cpu_celsius": 61.0, "gpu_celsius": None}


def test_an_exchange_brings_one_sample_a_minute() -> None:
    host = SimulatedHost()
    for _ in range(3):
        assert host.exchange(machine=LOAD).status_code == 200
    assert NodeSample.objects.count() <= 2, "one, unless a minute ended meanwhile"
    sample = NodeSample.objects.earliest("minute_at")
    assert (sample.node, sample.cpu_percent, sample.gpu_percent, sample.cpu_celsius) == (host.node, 41.5, None, 61.0)


def test_a_sample_costs_no_statement_and_keeps_the_reason(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    node, now = SimulatedHost().node, timezone.now()
    with django_assert_num_queries(1):
        node_heard(node=node, no_work=NoWork(code="none_fits", message="Too small."), machine=MachineLoad(**LOAD), now=now)
    node.refresh_from_db()
    assert (node.last_seen_at, node.last_no_work) == (now, {"code": "none_fits", "message": "Too small."})
    with django_assert_num_queries(1):
        node_heard(node=node, no_work=None, machine=MachineLoad(**LOAD), now=now + timedelta(seconds=61))
    assert Node.objects.get().last_no_work == {"code": "none_fits", "message": "Too small."}
    assert NodeSample.objects.count() == 2


@pytest.mark.parametrize("wrong", [{"cpu_percent": 101}, {"cpu_celsius": -1}, {"users": 3}])
def test_a_load_that_can_not_be_is_refused(wrong: dict[str, float]) -> None:
    assert SimulatedHost().exchange(machine={**LOAD, **wrong}).json()["code"] == "message_invalid"


def test_old_samples_are_forgotten() -> None:
    node, now = SimulatedHost().node, timezone.now()
    for hours in (1, NODE_SAMPLE_HOURS + 1):
        NodeSample.objects.create(node=node, minute_at=now - timedelta(hours=hours))
    assert node_samples_forget(now=now) == 1
    assert NodeSample.objects.get().minute_at == now - timedelta(hours=1)


def test_a_draining_node_is_told_and_gets_nothing() -> None:
    queued_job()
    host = SimulatedHost()
    node_drain(node=host.node)
    answer = host.exchange().json()
    assert [command["kind"] for command in answer["commands"]] == ["drain"]
    assert (answer["orders"], answer["no_work"]["code"]) == ([], "node_draining")
