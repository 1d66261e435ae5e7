"""On a real ASGI server: waking, from the commit that queues a job to the order in a waiting host's hands; and a host's leaving."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import requests
from django.conf import settings
from django.db import transaction
from pytest_django import DjangoDbBlocker

from jobs.gateway.wakes import POLL_SECONDS
from jobs.models import Job
from jobs.nudges import WAKE_CHANNEL
from jobs.services.closing import job_fail
from jobs.states import ReplicaState
from nodes.models import Node, NodeState
from tests.client.live_portal import LivePortal
from tests.factories.people import researcher_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost, exchange_make
from workers.portal import PortalClient, PortalRefusedError
from workers.protocol.http_signatures import request_sign
from workers.protocol.messages.exchange import ExchangeRequest

WOKEN_SECONDS_MAX = POLL_SECONDS / 2
"""Far above what a wake takes on the busiest machine (`make bench` measures it), below any polling: only a wake is that quick."""


@pytest.fixture(scope="module")
def portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    live = LivePortal(django_db_blocker)
    try:
        live.start(tmp_path_factory.mktemp("portal") / "uvicorn.log")
        yield live
    finally:
        live.stop()


def test_the_hosts_own_client_leaves_and_its_lease_is_given_back(portal: LivePortal) -> None:
    with portal.database():
        job, host = queued_job(), SimulatedHost()
    client = PortalClient(portal.origin, host.key)
    message = ExchangeRequest.model_validate_json(json.dumps(exchange_make()))
    assert len(client.exchange(message).orders) == 1
    client.leave()
    client.leave()  # as after a lost answer
    with pytest.raises(PortalRefusedError) as refused:
        client.exchange(message)
    client.close()
    assert refused.value.code == "node_revoked"
    with portal.database():
        assert Node.objects.get(pk=host.node.pk).state == NodeState.REVOKED
        assert sorted(job.replicas.values_list("state", flat=True)) == [ReplicaState.EXPIRED, ReplicaState.QUEUED]
        with transaction.atomic():  # so that the substitute is nobody else's work in this module
            job_fail(job=Job.objects.get(pk=job.pk), code="cancelled", message="")


def test_an_order_reaches_a_waiting_host_by_a_wake(portal: LivePortal) -> None:
    assert _order_seconds(portal) < WOKEN_SECONDS_MAX


def _order_seconds(portal: LivePortal) -> float:
    with portal.database():
        host, researcher = SimulatedHost(), researcher_make()
        body = json.dumps(exchange_make(wait_seconds=9)).encode()
        url = f"{portal.origin}/api/v1/exchange"
        headers = {"Content-Type": "application/json"}
        headers |= request_sign(method="POST", url=url, headers=headers, body=body, key=host.key, now=int(time.time()))
        found: list[tuple[float, int]] = []

        def ask() -> None:
            answer = requests.post(url, data=body, headers=headers, timeout=20)
            found.append((time.monotonic(), len(answer.json()["orders"])))

        asking = threading.Thread(target=ask)
        with redis.Redis.from_url(settings.NEXA_REDIS_URL) as client:
            _until(client, 0)
            asking.start()
            _until(client, 1)
        time.sleep(0.05)  # the look that follows the subscription is over: what comes now comes by the wake
        started = time.monotonic()
        queued_job(researcher)
        asking.join()
        [(answered, orders)] = found
        assert orders == 1
        return answered - started


def _until(client: redis.Redis, subscriptions: int) -> None:
    limit = time.monotonic() + 10
    while client.pubsub_numsub(WAKE_CHANNEL)[0][1] != subscriptions:
        assert time.monotonic() < limit
        time.sleep(0.005)
