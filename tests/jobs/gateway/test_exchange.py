"""Exchanges over HTTP: waiting, waking, commands, and the document that describes them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import transaction
from django.test import AsyncClient, Client

from jobs.gateway.database import in_database
from jobs.gateway.openapi import gateway_paths_add
from jobs.gateway.wakes import WakeHub
from jobs.nudges import WAKE_CHANNEL, exchanges_wake
from jobs.services.closing import job_fail
from nodes.services import node_pause
from tests.factories.nodes import signed_headers
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import LOG, SimulatedHost, exchange_make, order_open

WAIT_SECONDS = 10
"""Of an exchange that is expected to end long before."""


@pytest.mark.django_db
class TestAnswers:
    def test_no_slots_asked_for_no_reason_given(self) -> None:
        queued_job()
        answer = SimulatedHost().exchange(slots=0).json()
        assert (answer["orders"], answer["no_work"]) == ([], None)

    def test_the_reason_is_told_and_kept_for_the_nodes_page(self) -> None:
        host = SimulatedHost()
        answer = host.exchange().json()
        assert answer["no_work"]["code"] == "no_jobs_queued"
        host.node.refresh_from_db()
        assert host.node.last_no_work == answer["no_work"]
        assert host.node.last_seen_at is not None

    def test_the_reason_is_forgotten_when_there_is_work(self) -> None:
        host = SimulatedHost()
        host.exchange()
        queued_job()
        host.order()
        host.node.refresh_from_db()
        assert host.node.last_no_work is None

    def test_the_same_request_brings_the_same_order_again(self) -> None:
        queued_job()
        queued_job()
        host = SimulatedHost()
        request_id = str(uuid.uuid4())
        first, again = host.exchange(request_id=request_id).json(), host.exchange(request_id=request_id).json()
        assert first["orders"] == again["orders"]
        assert first["request_id"] == request_id

    def test_several_slots_bring_several_orders(self) -> None:
        for _ in range(3):
            queued_job()
        orders = [order_open(one) for one in SimulatedHost().exchange(slots=2).json()["orders"]]
        assert len({order.lease_id for order in orders}) == 2

    def test_a_paused_node_is_told_and_gets_nothing(self) -> None:
        queued_job()
        host = SimulatedHost()
        node_pause(node=host.node)
        answer = host.exchange().json()
        assert [command["kind"] for command in answer["commands"]] == ["pause"]
        assert answer["no_work"]["code"] == "node_paused"

    def test_an_order_tells_neither_the_job_nor_its_copies(self) -> None:
        job = queued_job(copies=3)
        text = SimulatedHost().order().model_dump_json()
        assert str(job.pk) not in text
        assert job.label not in text

    def test_who_does_not_sign_is_refused(self) -> None:
        answer = Client().post("/api/v1/exchange", json.dumps(exchange_make()), content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_missing")

    def test_a_short_wait_ends_with_the_reason(self) -> None:
        started = time.monotonic()
        assert SimulatedHost().exchange(wait_seconds=0.3).json()["no_work"]["code"] == "no_jobs_queued"
        assert time.monotonic() - started >= 0.3


async def waiting_exchange(host: SimulatedHost, **fields: Any) -> Any:
    body = json.dumps(exchange_make(**{"session_id": host.session_id, **fields})).encode()
    headers = signed_headers(host.key, "POST", "/api/v1/exchange", body)
    del headers["Content-Type"]  # the client adds it a second time
    return await AsyncClient().post("/api/v1/exchange", body, content_type="application/json", headers=headers)


class TestWaiting:
    async def test_a_queued_job_reaches_a_waiting_host_at_once(self, own_database: str) -> None:
        host = await in_database(SimulatedHost)()
        waiting = asyncio.create_task(waiting_exchange(host, wait_seconds=WAIT_SECONDS))
        await subscribed()
        job = await in_database(queued_job)()
        started = time.monotonic()
        answer = (await waiting).json()
        assert len(answer["orders"]) == 1, answer["no_work"]
        assert time.monotonic() - started < WAIT_SECONDS / 2
        assert await in_database(job.replicas.filter(state="leased").count)() == 1

    async def test_a_cancelled_run_reaches_a_waiting_host_at_once(self, own_database: str) -> None:
        job = await in_database(queued_job)()
        host = await in_database(SimulatedHost)()
        order = await in_database(host.order)()
        lease = {"lease_id": str(order.lease_id), "stage": "running", "elapsed_seconds": 1}
        waiting = asyncio.create_task(waiting_exchange(host, wait_seconds=WAIT_SECONDS, slots=0, leases=[lease]))
        await subscribed()
        await in_database(cancel)(job)
        started = time.monotonic()
        [command] = (await waiting).json()["commands"]
        assert (command["kind"], command["lease_id"], command["reason"]) == ("cancel", str(order.lease_id), "stop it")
        assert time.monotonic() - started < WAIT_SECONDS / 2

    async def test_without_redis_a_host_looks_each_second(self, own_database: str, settings: Any) -> None:
        settings.NEXA_REDIS_URL = "redis://127.0.0.1:1/0"
        host = await in_database(SimulatedHost)()
        waiting = asyncio.create_task(waiting_exchange(host, wait_seconds=WAIT_SECONDS))
        await asyncio.sleep(0)
        await in_database(queued_job)()
        assert len((await asyncio.wait_for(waiting, 5)).json()["orders"]) == 1

    async def test_waiting_hosts_share_one_subscription_and_each_job_goes_to_one(self, own_database: str) -> None:
        hosts = [await in_database(SimulatedHost)() for _ in range(6)]
        waiting = [asyncio.create_task(waiting_exchange(host, wait_seconds=4)) for host in hosts]
        await subscribed()
        assert await in_database(subscriptions)() == 1
        for _ in range(3):
            await in_database(queued_job)()
        answers = [(await one).json() for one in waiting]
        assert sum(len(answer["orders"]) for answer in answers) == 3


def cancel(job: Any) -> None:
    with transaction.atomic():
        locked = type(job).objects.select_for_update().get(pk=job.pk)
        job_fail(job=locked, code="test", message="stop it")
        transaction.on_commit(lambda: exchanges_wake([locked.tier]))


def subscriptions() -> int:
    with redis.Redis.from_url(settings.NEXA_REDIS_URL) as client:
        [(_, count)] = client.pubsub_numsub(WAKE_CHANNEL)
        return int(count)


async def subscribed() -> None:
    """Returns when a waiting exchange listens."""
    async with asyncio.timeout(10):
        while await asyncio.to_thread(subscriptions) == 0:  # noqa: ASYNC110  what is waited for happens in Redis
            await asyncio.sleep(0.01)


class TestHub:
    async def test_a_hub_ends_with_its_last_waiter(self) -> None:
        hub = WakeHub(settings.NEXA_REDIS_URL)
        async with hub.waiter(["cpu"]) as first, hub.waiter(["cpu", "gpu-tier1"]):
            assert hub.is_subscribed
            await in_database(exchanges_wake)(["cpu"])
            await asyncio.wait_for(first.wait(9), 5)
        assert bool(hub.is_subscribed) is False
        async with hub.waiter(["cpu"]):
            assert hub.is_subscribed


def test_the_gateways_addresses_are_in_the_openapi_document() -> None:
    document = gateway_paths_add({"paths": {}, "components": {}}, None, None, True)
    assert set(document["paths"]) == {
        "/api/v1/exchange",
        "/api/v1/nodes/self/leave",
        "/api/v1/receipts",
        "/api/v1/uploads",
        "/api/v1/uploads/{upload_id}",
        "/api/v1/blobs/{digest}",
    }
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= document["components"]["schemas"].keys()
    assert {"ExchangeRequest", "ExchangeAnswer", "ReceiptSubmission", "ReceiptAnswer"} <= references


@pytest.mark.django_db
def test_text_that_no_database_holds_is_refused() -> None:
    """U+0000 in a host's words: PostgreSQL stores it neither as text nor in JSON."""
    queued_job()
    host = SimulatedHost()
    order = host.order()
    report = {"lease_id": str(order.lease_id), "stage": "running", "progress": 0.5, "message": "a\0b", "elapsed_seconds": 1.0}
    assert host.exchange(leases=[report]).status_code == 400
    host.upload(order.lease_id, LOG)
    answer = host.submit(host.receipt(order, failure=("exit_nonzero", "a\0b")))
    assert answer.status_code == 400
