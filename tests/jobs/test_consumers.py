"""WebSockets: who gets in, and what they are sent, over the ASGI application's own routes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.test import override_settings

from jobs.consumers import CLOSE_FORBIDDEN, websocket_urlpatterns
from jobs.models import Job
from jobs.services.outbox import outbox_push
from jobs.services.transitions import event_record
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make, user_make

MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def _memory_layer() -> Any:
    with override_settings(CHANNEL_LAYERS=MEMORY):
        yield


def socket(path: str, user: Any) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), path)
    communicator.scope["user"] = user
    return communicator


def _made() -> tuple[Job, Any]:
    job = job_make()
    outbox_push()
    return job, job.owner


async def test_owner_is_sent_the_events_of_the_job(own_database: str) -> None:
    job, owner = await sync_to_async(_made)()
    communicator = socket(f"/ws/jobs/{job.pk}/", owner)
    assert (await communicator.connect())[0]
    await sync_to_async(event_record)(job=job, kind="replica.note", payload={"n": 1})
    await sync_to_async(outbox_push)()
    event = await communicator.receive_json_from()
    assert (event["job"], event["kind"], event["payload"]) == (str(job.pk), "replica.note", {"n": 1})
    for nonsense in ("{", "[]", '{"type": "job.event"}'):
        await communicator.send_to(text_data=nonsense)
    await communicator.send_to(bytes_data=b"\xff")
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_events_of_another_job_are_not_sent(own_database: str) -> None:
    job, owner = await sync_to_async(_made)()
    other = (await sync_to_async(_made)())[0]
    communicator = socket(f"/ws/jobs/{job.pk}/", owner)
    assert (await communicator.connect())[0]
    await sync_to_async(event_record)(job=other, kind="replica.note")
    await sync_to_async(outbox_push)()
    assert await communicator.receive_nothing()
    await communicator.disconnect()


@pytest.mark.parametrize("who", ["stranger", "moderator", "anonymous", "nobody"])
async def test_others_are_closed_out(own_database: str, who: str) -> None:
    job, _ = await sync_to_async(_made)()
    makers: dict[str, Any] = {"stranger": user_make, "moderator": moderator_make, "anonymous": AnonymousUser, "nobody": lambda: None}
    communicator = socket(f"/ws/jobs/{job.pk}/", await sync_to_async(makers[who])())
    assert await communicator.connect() == (False, CLOSE_FORBIDDEN)


async def test_job_that_is_not_there_is_closed_alike(own_database: str) -> None:
    communicator = socket(f"/ws/jobs/{uuid.uuid4()}/", await sync_to_async(user_make)())
    assert await communicator.connect() == (False, CLOSE_FORBIDDEN)


async def test_anybody_is_sent_coarse_events_of_the_fleet(own_database: str) -> None:
    communicator = socket("/ws/fleet/", AnonymousUser())
    assert (await communicator.connect())[0]
    job, _ = await sync_to_async(_made)()
    event = await communicator.receive_json_from()
    assert event["kind"] == "job.queued"
    assert set(event) == {"kind", "job_type", "tier", "at"}
    assert str(job.pk) not in str(event)
    await communicator.send_to(text_data="{")
    assert await communicator.receive_nothing()
    await communicator.disconnect()
    layer = get_channel_layer()
    assert layer is not None
    assert not layer.groups
