"""Claims before a long queue that is not for the host, counted in pages that the database looks at: no other work changes that."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs.matching.claims import replicas_claim
from jobs.matching.no_work import no_work_reason
from jobs.models import Job, JobKind, Replica
from jobs.services.leases import leases_claim
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import replica_transition
from jobs.states import ReplicaState
from nodes.models import Node
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.matching.long_queue import queue_lengthen
from workers.protocol.messages.exchange import PATTERNS_MAX, FreeResources, Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode

FREE = FreeResources(slots=1, cpus=8, memory_bytes=2**35, disk_bytes=2**37)
LONG = 20_000
PAGES_MAX = 200
"""An index is three pages deep and there are a few to look at; the long queue has many hundreds."""

ELSEWHERE = {"name": "elsewhere.example.org/md:1.0", "image_id": "sha256:" + "1" * 64}
ANYTHING = Wishes()
MANY = tuple(f"registry{number}.example.org/*" for number in range(PATTERNS_MAX - 1))


def pages_of(claim: Callable[[], Any]) -> int:
    """Pages that the statements of this claim look at, by the database's own count."""
    statements: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        claim()
    pages = 0
    with transaction.atomic(), connection.cursor() as cursor:
        for sql, params in [(sql, params) for sql, params in statements if "FROM jobs_replica r" in sql or "JOIN jobs_replica r" in sql]:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            [[[explained]]] = cursor.fetchall()
            pages += explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
    assert pages > 0
    return pages


def claimed_by(node: Node, *, wishes: Wishes = ANYTHING) -> list[uuid.UUID]:
    """The jobs that a claim takes, which is then undone."""
    with transaction.atomic():
        found = [claim.job.pk for claim in replicas_claim(node=node, tiers=[Tier.CPU], free=FREE, wishes=wishes)]
        transaction.set_rollback(True)
        return found


def lease_take(node: Node) -> Replica:
    [replica] = leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=ANYTHING, now=timezone.now())
    return replica


def voted(node: Node) -> Job:
    """A job with a second copy queued: its first is this owner's."""
    job = queued_job(copies=2)
    lease_take(node)
    return job


def failed_here(node: Node) -> Job:
    job = queued_job()
    replica_transition(replica=lease_take(node), to=ReplicaState.FAILED, failure_code=FailureCode.EXIT_NONZERO)
    replicas_queue(job=job, count=1)
    return job


def too_large(node: Node) -> Job:
    return queued_job(descriptor={"limits": {"cpus": FREE.cpus + 1, "memory_mb": 1024, "disk_mb": 1024, "output_mb": 100}})


def closed(node: Node) -> Job:
    job = queued_job(image=ELSEWHERE)
    JobKind.objects.filter(image_name=ELSEWHERE["name"]).update(closed_until=timezone.now() + timedelta(hours=1))
    return job


@pytest.mark.parametrize("ahead", [voted, failed_here, too_large, closed], ids=lambda made: made.__name__)
def test_jobs_that_are_not_for_the_node_are_not_looked_at(own_database: str, ahead: Callable[[Node], Job]) -> None:
    node, _ = node_make(user_make())
    queue_lengthen(ahead(node), LONG)
    assert claimed_by(node) == []
    assert pages_of(lambda: claimed_by(node)) <= PAGES_MAX
    assert pages_of(lambda: no_work_reason(node=node, wanted=[Tier.CPU], free=FREE, wishes=ANYTHING)) <= PAGES_MAX
    behind = queued_job()
    assert claimed_by(node) == [behind.pk]
    assert pages_of(lambda: claimed_by(node)) <= PAGES_MAX


def test_a_long_queue_of_what_suits_costs_no_more_than_a_short_one(own_database: str) -> None:
    node, _ = node_make(user_make())
    queue_lengthen(queued_job(), LONG // 4)
    short = pages_of(lambda: claimed_by(node))
    queue_lengthen(queued_job(), LONG)
    assert pages_of(lambda: claimed_by(node)) <= short * 1.2


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(images=("example/*",)),
        Wishes(images=(*MANY, "example/*"), job_types=("test", "chemistry.*")),
        Wishes(job_types=("test",)),
        Wishes(credit_rate_min=1),
        Wishes(images=("no/such",)),
    ],
    ids=["image", "many_patterns", "type", "rate", "nothing_wished"],
)
def test_jobs_that_are_not_wished_for_are_not_looked_at(own_database: str, wishes: Wishes) -> None:
    queue_lengthen(queued_job(image=ELSEWHERE, job_type="physics.md", credit_rate_micro=500_000), LONG)
    node, _ = node_make(user_make())

    def claimed() -> list[Any]:
        return claimed_by(node, wishes=wishes)

    assert claimed() == []
    assert pages_of(claimed) <= PAGES_MAX
    wished = queued_job()
    assert claimed() == ([] if wishes.images == ("no/such",) else [wished.pk])
    assert pages_of(claimed) <= PAGES_MAX
