"""A newer exchange of a node supersedes one that still waits: the older claims nothing, in whichever process it waits."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from django.utils import timezone

from jobs.gateway.database import in_database
from jobs.services.exchanges import exchange_record
from jobs.services.leases import leases_claim
from jobs.sessions import Arrival
from jobs.states import ReplicaState
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost
from tests.jobs.gateway.test_exchange import subscribed, waiting_exchange
from workers.protocol.messages.exchange import FreeResources, Wishes
from workers.protocol.messages.machine import Tier

FREE = FreeResources(slots=1, cpus=8, memory_bytes=2**36, disk_bytes=2**40)


@pytest.mark.django_db
def test_only_the_newest_exchange_claims() -> None:
    queued_job()
    node, old, new = SimulatedHost().node, uuid.uuid4(), uuid.uuid4()
    session_id = uuid.uuid4()
    for request_id in (old, new):
        assert exchange_record(node=node, request_id=request_id, session_id=session_id, signed_at=1_800_000_000) is Arrival.CURRENT
    now = timezone.now()
    assert leases_claim(node=node, request_id=old, wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=now) == []
    assert len(leases_claim(node=node, request_id=new, wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=now)) == 1


@pytest.mark.django_db
def test_a_request_repeated_without_slots_brings_the_order_that_it_claimed() -> None:
    queued_job()
    host, request_id = SimulatedHost(), str(uuid.uuid4())
    first = host.exchange(request_id=request_id).json()["orders"]
    assert len(first) == 1
    host.exchange(slots=0)
    assert host.exchange(request_id=request_id, slots=0).json()["orders"] == first


async def test_a_waiting_exchange_ends_without_an_order_when_a_newer_one_arrived(own_database: str) -> None:
    host = await in_database(SimulatedHost)()
    older = asyncio.create_task(waiting_exchange(host, wait_seconds=10))
    await subscribed()
    assert (await waiting_exchange(host, slots=0)).json()["orders"] == []
    job = await in_database(queued_job)()  # wakes the older one
    assert (await asyncio.wait_for(older, 5)).json()["orders"] == []
    assert await in_database(job.replicas.filter(state=ReplicaState.QUEUED).count)() == 1


async def test_an_exchange_whose_host_went_away_claims_nothing(own_database: str) -> None:
    host = await in_database(SimulatedHost)()
    waiting = asyncio.create_task(waiting_exchange(host, wait_seconds=10))
    await subscribed()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    job = await in_database(queued_job)()
    assert await in_database(job.replicas.filter(state=ReplicaState.QUEUED).count)() == 1
