"""Claims before a long queue that is not for the host, counted in pages that the database looks at: no other work changes that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from jobs.matching import replicas_claim
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.long_queue import queue_lengthen
from workers.protocol.messages import PATTERNS_MAX, FreeResources, Tier, Wishes

FREE = FreeResources(slots=1, cpus=8, memory_bytes=2**35, disk_bytes=2**37)
LONG = 20_000
PAGES_MAX = 200
"""An index is three pages deep and there are a few to look at; the long queue has many hundreds."""

ELSEWHERE = {"name": "elsewhere.example.org/md:1.0", "image_id": "sha256:" + "1" * 64}
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
        for sql, params in [(sql, params) for sql, params in statements if "jobs_replica r" in sql]:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            [[[explained]]] = cursor.fetchall()
            pages += explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
    assert pages > 0
    return pages


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
        with transaction.atomic():
            found = [claim.job.pk for claim in replicas_claim(node=node, tiers=[Tier.CPU], free=FREE, wishes=wishes)]
            transaction.set_rollback(True)
            return found

    assert claimed() == []
    assert pages_of(claimed) <= PAGES_MAX
    wished = queued_job()
    assert claimed() == ([] if wishes.images == ("no/such",) else [wished.pk])
    assert pages_of(claimed) <= PAGES_MAX
