"""The triggers that keep the queue: whatever happens to a job's replicas, exactly its next one is in it, with what bars hosts from that."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.matching.claims import OWNER_ATTEMPTS_MAX
from jobs.models import Job, JobKind, Replica
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import ReplicaStep, steps_take
from jobs.states import REPLICA_EXCLUSIVE, REPLICA_TRANSITIONS, ReplicaState
from nodes.models import Node
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from workers.protocol.messages.receipt import FailureCode

CODES = [FailureCode.EXIT_NONZERO, FailureCode.HOST_STOPPED, FailureCode.HOST_ERROR]
Move = tuple[int, int, int, int]


def bars_of(job: Job) -> tuple[list[int], list[uuid.UUID]]:
    """The definition: what matching's rule 4 says of this job's rows."""
    replicas = list(job.replicas.exclude(node_owner=None))
    ended = Counter(one.node_owner_id for one in replicas if one.state in (ReplicaState.FAILED, ReplicaState.EXPIRED))
    barred = {one.node_owner_id for one in replicas if ReplicaState(one.state) in REPLICA_EXCLUSIVE}
    barred |= {owner for owner, count in ended.items() if count >= OWNER_ATTEMPTS_MAX}
    failed = {one.node_id for one in replicas if one.state == ReplicaState.FAILED and one.failure_code != FailureCode.HOST_STOPPED}
    return sorted(one for one in barred if one is not None), sorted(one for one in failed if one is not None)


def queue_check(job: Job) -> None:
    queued = list(job.replicas.filter(state=ReplicaState.QUEUED).order_by("created_at", "pk"))
    assert [one.queue_key is not None for one in queued] == [True, *[False] * (len(queued) - 1)][: len(queued)]
    for one in queued[:1]:
        assert (one.barred, one.failed_nodes) == bars_of(job)


def move_take(job: Job, nodes: list[Node], move: Move) -> None:
    """One change: another queued replica, or an allowed transition of one of the replicas, together with one of another's."""
    which, following, node_number, code = move
    replicas = list(job.replicas.order_by("created_at", "pk"))
    if following == 0:
        replicas_queue(job=job, count=1 + which % 2)
        return
    steps: list[ReplicaStep] = []
    for replica in {one.pk: one for one in (replicas[which % len(replicas)], replicas[(which * 7 + 1) % len(replicas)])}.values():
        allowed = sorted(REPLICA_TRANSITIONS[ReplicaState(replica.state)])
        if not allowed:
            continue
        to = allowed[following % len(allowed)]
        node = nodes[node_number % len(nodes)]
        node_number += 1
        fields: dict[str, Any] = {"failure_code": CODES[code % 3]} if to == ReplicaState.FAILED else {}
        if to == ReplicaState.LEASED:
            fields |= {"node": node, "node_owner_id": node.owner_id, "lease_id": uuid.uuid4()}
        owners = job.replicas.filter(state__in=sorted(REPLICA_EXCLUSIVE)).exclude(pk=replica.pk)
        owner = fields.get("node_owner_id", replica.node_owner_id)
        taken = {step.fields.get("node_owner_id", step.replica.node_owner_id) for step in steps if step.to in REPLICA_EXCLUSIVE}
        if to in REPLICA_EXCLUSIVE and (owners.filter(node_owner=owner).exists() or owner in taken):
            continue
        steps.append(ReplicaStep(replica, to, fields=fields))
    steps_take(steps)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4), st.lists(st.tuples(*[st.integers(0, 20)] * 4), min_size=1, max_size=14))
def test_the_next_of_a_job_is_queued_with_what_bars_hosts_from_it_after_whatever_happened(copies: int, moves: list[Move]) -> None:
    with transaction.atomic():
        job = queued_job(copies=copies)
        owners = [user_make() for _ in range(2)]
        nodes = [node_make(owner)[0] for owner in owners for _ in range(2)]
        queue_check(job)
        for move in moves:
            move_take(job, nodes, move)
            queue_check(job)
        transaction.set_rollback(True)


@pytest.mark.django_db
class TestKeys:
    def keys(self, *jobs: Job) -> list[Any]:
        return [job.replicas.get(state=ReplicaState.QUEUED).queue_key for job in jobs]

    def test_what_suits_the_same_hosts_has_one_key(self) -> None:
        first, second, urgent = queued_job(), queued_job(), queued_job(priority=5)
        assert len(set(self.keys(first, second, urgent))) == 1

    @pytest.mark.parametrize(
        "changed",
        [
            {"cpus": 1.5},
            {"memory_bytes": 2**40},
            {"disk_bytes": 2**40},
            {"gpus": 1},
            {"gpu_memory_bytes": 1},
            {"kind": "another"},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    def test_what_may_suit_other_hosts_has_another(self, changed: dict[str, Any]) -> None:
        job = queued_job()
        replica = job.replicas.get()
        if "kind" in changed:
            changed = {"kind": JobKind.objects.create(image_name="another", job_type="test", credit_rate_micro=1)}
        names = ("tier", "priority", "cpus", "memory_bytes", "disk_bytes", "gpus", "gpu_memory_bytes", "kind")
        other = queued_job()
        other.replicas.all().delete()
        made = Replica.objects.create(job=other, **{**{name: getattr(replica, name) for name in names}, **changed})
        made.refresh_from_db()
        assert made.queue_key not in {None, replica.queue_key}

    def test_whom_it_is_barred_from_counts(self) -> None:
        jobs = [queued_job(copies=2) for _ in range(3)]
        nodes = [node_make(user_make())[0] for _ in range(2)]
        for job, node in ((jobs[0], nodes[0]), (jobs[1], nodes[0]), (jobs[2], nodes[1])):
            fields = {"node": node, "node_owner_id": node.owner_id, "lease_id": uuid.uuid4()}
            steps_take([ReplicaStep(job.replicas.order_by("created_at", "pk")[0], ReplicaState.LEASED, fields=fields)])
        same, too, other = self.keys(*jobs)
        assert same == too != other


@pytest.mark.django_db
def test_going_on_from_one_state_that_holds_a_vote_to_another_calls_no_trigger() -> None:
    job = queued_job(copies=2)
    node, _ = node_make(user_make())
    replica = job.replicas.order_by("created_at", "pk")[0]
    steps_take([ReplicaStep(replica, ReplicaState.LEASED, fields={"node": node, "node_owner_id": node.owner_id, "lease_id": uuid.uuid4()})])
    for state in (ReplicaState.RUNNING, ReplicaState.REPORTED, ReplicaState.ACCEPTED):
        assert "jobs_replica_queue_follow" not in triggers_of(replica, state)
    assert "jobs_replica_queue_follow" in triggers_of(replica, ReplicaState.CANCELLED)


def triggers_of(replica: Replica, state: ReplicaState) -> set[str]:
    """The triggers that a change of state calls."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) UPDATE jobs_replica SET state = %s WHERE id = %s", [state, replica.pk])
        [[[explained]]] = cursor.fetchall()
    return {str(trigger["Trigger Name"]) for trigger in explained["Triggers"]}
