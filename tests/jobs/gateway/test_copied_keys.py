"""Two workers with one key, over HTTP: the superseded one is refused when it comes back, the owner is told, honest hosts notice nothing."""

from __future__ import annotations

import json
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import NodeExchange
from jobs.services.exchanges import exchange_record
from jobs.sessions import Arrival
from nodes.clones import clone_record, clones_tell
from nodes.models import Node
from people.notifications.mailing import mails_send
from tests.factories.nodes import signed_headers
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost, exchange_make

pytestmark = pytest.mark.django_db


def exchange(host: SimulatedHost, session_id: str, *, age_seconds: int = 0, **fields: Any) -> Any:
    """The answer to an exchange of this session, signed so long ago."""
    body = json.dumps(exchange_make(session_id=session_id, **fields)).encode()
    headers = signed_headers(host.key, "POST", "/api/v1/exchange", body, age_seconds=age_seconds)
    return host.client.post("/api/v1/exchange", body, content_type="application/json", headers=headers)


def sessions(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


class TestExchanges:
    def test_a_copy_supersedes_and_the_original_is_refused_when_it_comes_back(self) -> None:
        host = SimulatedHost()
        original, copy = sessions(2)
        assert exchange(host, original, age_seconds=40).status_code == 200
        assert exchange(host, copy, age_seconds=20).status_code == 200
        answer = exchange(host, original, age_seconds=10)
        assert (answer.status_code, answer.json()["code"]) == (409, "session_superseded")
        assert "nexa key rotate" in answer.json()["detail"]
        host.node.refresh_from_db()
        assert host.node.clone_seen_at is not None
        assert exchange(host, copy).status_code == 200

    def test_a_refused_session_renews_and_takes_nothing(self) -> None:
        host = SimulatedHost()
        original, copy = sessions(2)
        queued_job()
        [order] = exchange(host, original, age_seconds=40).json()["orders"]
        assert order
        exchange(host, copy, age_seconds=20, slots=0)
        queued_job()
        before = host.node.replicas.get().lease_expires_at
        assert exchange(host, original, leases=[], slots=1).status_code == 409
        assert host.node.replicas.get().lease_expires_at == before

    def test_a_restart_is_served_at_once(self) -> None:
        host = SimulatedHost()
        queued_job()
        for age_seconds, session_id in ((30, sessions(1)[0]), (20, sessions(1)[0]), (10, sessions(1)[0])):
            answer = exchange(host, session_id, age_seconds=age_seconds)
            assert answer.status_code == 200
        host.node.refresh_from_db()
        assert host.node.clone_seen_at is None

    def test_a_request_that_comes_after_its_successor_is_answered_and_takes_no_work(self) -> None:
        host = SimulatedHost()
        old, new = sessions(2)
        exchange(host, old, age_seconds=30)
        exchange(host, new, age_seconds=20)
        queued_job()
        for _ in range(2):  # whatever a network does with it
            late = exchange(host, old, age_seconds=25)
            assert (late.status_code, late.json()["orders"]) == (200, [])
        assert len(exchange(host, new).json()["orders"]) == 1
        host.node.refresh_from_db()
        assert host.node.clone_seen_at is None

    def test_a_session_whose_first_request_comes_too_late_supersedes_nobody(self) -> None:
        host = SimulatedHost()
        old, new = sessions(2)
        exchange(host, new, age_seconds=20)
        assert exchange(host, old, age_seconds=25).status_code == 200
        assert NodeExchange.objects.get(node=host.node).session_id == uuid.UUID(new)
        assert exchange(host, new).status_code == 200

    def test_a_late_request_brings_the_orders_that_it_took(self) -> None:
        """A worker that starts in the second in which another one died, with the request that the other left unanswered."""
        host = SimulatedHost()
        old, new = sessions(2)
        request_id = str(uuid.uuid4())
        queued_job()
        first = exchange(host, old, age_seconds=10, request_id=request_id).json()["orders"]
        assert len(first) == 1
        assert exchange(host, new, age_seconds=10, request_id=request_id).json()["orders"] == first

    def test_a_late_request_does_not_wait(self) -> None:
        host = SimulatedHost()
        old, new = sessions(2)
        exchange(host, new)
        started = time.monotonic()
        assert exchange(host, old, age_seconds=20, wait_seconds=20).status_code == 200
        assert time.monotonic() - started < 5

    def test_the_usual_exchange_records_itself_in_one_statement(self) -> None:
        host = SimulatedHost()
        session_id = uuid.uuid4()
        for _ in range(2):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                arrival = exchange_record(node=host.node, request_id=uuid.uuid4(), session_id=session_id, signed_at=1_800_000_000)
            assert (arrival, len(queries)) == (Arrival.CURRENT, 1)


class TestOwners:
    def test_the_owner_is_told_once_a_day_while_it_goes_on(self) -> None:
        owner = user_make("ada")
        host = SimulatedHost(owner)
        now = timezone.now()
        assert clones_tell(now=now) == 0
        clone_record(node=host.node, now=now)
        assert (clones_tell(now=now), clones_tell(now=now)) == (1, 0)
        assert mails_send() == 1
        [message] = mail.outbox
        assert message.to == ["ada@example.org"]
        assert host.node.name in message.subject
        assert "nexa key rotate" in message.body
        tomorrow = now + timedelta(days=1, minutes=1)
        clone_record(node=Node.objects.get(pk=host.node.pk), now=tomorrow)
        assert clones_tell(now=tomorrow) == 1

    def test_an_owner_without_an_address_is_no_trouble(self) -> None:
        owner = user_make()
        owner.email = ""
        owner.save()
        host = SimulatedHost(owner)
        clone_record(node=host.node, now=timezone.now())
        assert (clones_tell(), clones_tell()) == (1, 0)
        assert mails_send() == 0

    def test_a_copy_that_asks_often_is_written_down_once_a_minute(self) -> None:
        host = SimulatedHost()
        now = timezone.now()
        clone_record(node=host.node, now=now)
        node = Node.objects.get(pk=host.node.pk)
        with CaptureQueriesContext(connection) as queries:
            clone_record(node=node, now=now + timedelta(seconds=59))
        assert len(queries) == 0
        clone_record(node=node, now=now + timedelta(seconds=61))
        node.refresh_from_db()
        assert node.clone_seen_at == now + timedelta(seconds=61)

    def test_the_page_and_the_api_show_it(self) -> None:
        owner = user_make()
        host = SimulatedHost(owner)
        clone_record(node=host.node, now=timezone.now())
        host.client.force_login(owner)
        page = host.client.get("/nodes/").content.decode()
        assert "Its key was used in two places" in page
        assert host.client.get(f"/api/v1/nodes/{host.node.pk}").json()["clone_seen_at"] is not None
