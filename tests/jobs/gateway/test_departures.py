"""Nodes that leave or are revoked: their leases are given back at once, and only they can say that they leave."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from jobs.services.leases import leases_reap
from jobs.states import JobState, ReplicaState
from nodes.models import NodeState
from nodes.services import node_revoke
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost

pytestmark = pytest.mark.django_db
LEAVE = "/api/v1/nodes/self/leave"


def test_a_host_that_leaves_gives_its_lease_back_at_once_and_may_say_so_twice() -> None:
    job, host = queued_job(), SimulatedHost()
    order = host.order()
    assert [host.send("POST", LEAVE).status_code for _ in range(2)] == [204, 204]
    host.node.refresh_from_db()
    job.refresh_from_db()
    assert (host.node.state, job.state) == (NodeState.REVOKED, JobState.QUEUED)
    states = dict(job.replicas.values_list("lease_id", "state"))
    assert states == {order.lease_id: ReplicaState.EXPIRED, None: ReplicaState.QUEUED}
    assert SimulatedHost().order().lease_id != order.lease_id


def test_leases_of_other_nodes_stay() -> None:
    job, host, other = queued_job(copies=2), SimulatedHost(), SimulatedHost()
    host.order()
    kept = other.order()
    host.send("POST", LEAVE)
    assert job.replicas.get(lease_id=kept.lease_id).state == ReplicaState.LEASED


def test_who_does_not_sign_with_the_key_is_refused_also_when_the_node_has_left() -> None:
    host, stranger = SimulatedHost(), SimulatedHost()
    host.send("POST", LEAVE)
    stranger.node.delete()
    assert (Client().generic("POST", LEAVE).status_code, stranger.send("POST", LEAVE).status_code) == (401, 401)


def test_a_body_is_refused_and_nothing_happens() -> None:
    host = SimulatedHost()
    assert host.send("POST", LEAVE, b"{}").status_code == 413
    host.node.refresh_from_db()
    assert host.node.state == NodeState.ACTIVE


def test_leases_of_a_node_that_its_owner_revoked_are_given_back_by_the_next_reaping() -> None:
    job, host = queued_job(), SimulatedHost()
    host.order()
    assert leases_reap(now=timezone.now()) == 0
    node_revoke(node=host.node)
    assert leases_reap(now=timezone.now()) == 1
    assert leases_reap(now=timezone.now()) == 0
    assert job.replicas.filter(state=ReplicaState.QUEUED).count() == 1
