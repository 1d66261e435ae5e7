"""WebSockets: who gets in, and what they are sent, over the ASGI application's own routes."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connections
from django.test import override_settings

from jobs.consumers import BETWEEN_FRAMES_SECONDS, CLOSE_FORBIDDEN, websocket_urlpatterns
from jobs.models import Job
from jobs.services import outbox
from jobs.services.outbox import FLEET_GROUP, job_group, outbox_push
from jobs.services.transitions import event_record
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make, user_make

REDIS = settings.CHANNEL_LAYERS
# Room for all that a test sends: it drops what a consumer has no time for, and says nothing.
MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 2000}}}


@pytest.fixture(autouse=True)
def _memory_layer() -> Any:
    with override_settings(CHANNEL_LAYERS=MEMORY):
        yield


class WebSocket:
    """A browser's end of a socket, in ASGI's own messages (channels.testing would bring a whole server along)."""

    def __init__(self, path: str, user: Any) -> None:
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": [], "subprotocols": [], "user": user}
        routes: Any = websocket_urlpatterns
        communicator: Any = ApplicationCommunicator
        self._communicator = communicator(URLRouter(routes), scope)

    async def connect(self) -> int | None:
        """The code with which the socket was closed at once; None where it is open."""
        await self._communicator.send_input({"type": "websocket.connect"})
        answer = await self._communicator.receive_output(timeout=5)
        if answer["type"] == "websocket.close":
            return int(answer["code"])
        assert answer["type"] == "websocket.accept"
        return None

    async def receive(self) -> Any:
        answer = await self._communicator.receive_output(timeout=5)
        assert answer["type"] == "websocket.send"
        return json.loads(answer["text"])

    async def receive_nothing(self) -> bool:
        return bool(await self._communicator.receive_nothing(timeout=0.2))

    async def send(self, **message: str | bytes) -> None:
        await self._communicator.send_input({"type": "websocket.receive", **message})

    async def disconnect(self) -> None:
        await self._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._communicator.wait(timeout=5)


def _made() -> tuple[Job, Any]:
    job = job_make()
    outbox_push()
    return job, job.owner


async def test_owner_is_sent_the_events_of_the_job(own_database: str) -> None:
    job, owner = await sync_to_async(_made)()
    socket = WebSocket(f"/ws/jobs/{job.pk}/", owner)
    assert await socket.connect() is None
    await sync_to_async(event_record)(job=job, kind="replica.note", payload={"n": 1})
    await sync_to_async(outbox_push)()
    event = await socket.receive()
    assert (event["job"], event["kind"], event["payload"]) == (str(job.pk), "replica.note", {"n": 1})
    for nonsense in ("{", "[]", '{"type": "job.events"}'):
        await socket.send(text=nonsense)
    await socket.send(bytes=b"\xff")
    assert await socket.receive_nothing()
    await socket.disconnect()


async def test_events_of_another_job_are_not_sent(own_database: str) -> None:
    job, owner = await sync_to_async(_made)()
    other = (await sync_to_async(_made)())[0]
    socket = WebSocket(f"/ws/jobs/{job.pk}/", owner)
    assert await socket.connect() is None
    await sync_to_async(event_record)(job=other, kind="replica.note")
    await sync_to_async(outbox_push)()
    assert await socket.receive_nothing()
    await socket.disconnect()


@pytest.mark.parametrize("who", ["stranger", "moderator", "anonymous", "nobody"])
async def test_others_are_closed_out(own_database: str, who: str) -> None:
    job, _ = await sync_to_async(_made)()
    makers: dict[str, Any] = {"stranger": user_make, "moderator": moderator_make, "anonymous": AnonymousUser, "nobody": lambda: None}
    socket = WebSocket(f"/ws/jobs/{job.pk}/", await sync_to_async(makers[who])())
    assert await socket.connect() == CLOSE_FORBIDDEN


async def test_job_that_is_not_there_is_closed_alike(own_database: str) -> None:
    socket = WebSocket(f"/ws/jobs/{uuid.uuid4()}/", await sync_to_async(user_make)())
    assert await socket.connect() == CLOSE_FORBIDDEN


async def test_anybody_is_told_that_something_happened_and_nothing_else(own_database: str) -> None:
    socket = WebSocket("/ws/fleet/", AnonymousUser())
    assert await socket.connect() is None
    await sync_to_async(_made)()
    assert await socket.receive() == {"events": 1}
    await socket.send(text="{")
    assert await socket.receive_nothing()
    await socket.disconnect()
    layer: Any = get_channel_layer()
    assert not layer.groups


async def test_two_hundred_events_a_second_are_two_frames_a_second() -> None:
    socket = WebSocket("/ws/fleet/", AnonymousUser())
    assert await socket.connect() is None
    layer: Any = get_channel_layer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(1000):
        await asyncio.sleep(max(0.0, began + number / 200 - loop.time()))
        await layer.group_send(FLEET_GROUP, {"type": "fleet.moved", "events": 1})
    lasted = loop.time() - began
    frames: list[dict[str, int]] = []
    while sum(frame["events"] for frame in frames) < 1000:
        frames.append(await socket.receive())
    assert lasted >= 4.9
    assert 5 <= len(frames) <= (loop.time() - began) / BETWEEN_FRAMES_SECONDS + 1
    assert sum(len(json.dumps(frame)) for frame in frames) < 20 * len(frames)
    assert await socket.receive_nothing()
    await socket.disconnect()


async def test_a_watcher_who_leaves_before_the_next_frame_ends_cleanly() -> None:
    socket = WebSocket("/ws/fleet/", AnonymousUser())
    assert await socket.connect() is None
    layer: Any = get_channel_layer()
    await layer.group_send(FLEET_GROUP, {"type": "fleet.moved", "events": 1})
    assert await socket.receive() == {"events": 1}
    await layer.group_send(FLEET_GROUP, {"type": "fleet.moved", "events": 1})
    assert await socket.receive_nothing()
    await socket.disconnect()
    assert not layer.groups


async def test_over_redis_a_watcher_is_sent_the_events_and_what_nobody_watches_is_sent_to_nobody(own_database: str) -> None:
    with override_settings(CHANNEL_LAYERS=REDIS):
        job, _ = await sync_to_async(_made)()
        other, _ = await sync_to_async(_made)()
        layer: Any = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(job_group(job.pk), channel)
        await layer.group_add(FLEET_GROUP, channel)
        assert outbox._watched([job_group(job.pk), job_group(other.pk), FLEET_GROUP]) == {job_group(job.pk), FLEET_GROUP}
        for one in (job, other):
            await sync_to_async(event_record)(job=one, kind="job.failed", payload={"of": one.label})
        assert await sync_to_async(outbox_push)() == 2
        found = [await asyncio.wait_for(layer.receive(channel), 5) for _ in range(2)]
        await layer.flush()
    await sync_to_async(connections.close_all)()  # of the thread that did the database's work; a socket's end would have done it
    by_type = {message["type"]: message["events"] for message in found}
    assert [event["payload"] for event in by_type["job.events"]] == [{"of": job.label}]
    assert by_type["fleet.moved"] == 2
