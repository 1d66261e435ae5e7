"""The socket of an owner's nodes: who gets in, and that it says no more than that something changed."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.test import override_settings

from jobs.consumers import CLOSE_FORBIDDEN
from jobs.services.outbox import outbox_push
from nodes.nudges import nodes_changed
from nodes.services import join_token_create, node_register
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make, registration_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease
from tests.jobs.test_consumers import MEMORY, WebSocket
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import RegistrationRequest


@pytest.fixture(autouse=True)
def _memory_layer() -> Any:
    with override_settings(CHANNEL_LAYERS=MEMORY):
        yield


@pytest.mark.parametrize("user", [AnonymousUser(), None])
async def test_who_is_not_signed_in_is_closed_out(user: Any) -> None:
    assert await WebSocket("/ws/nodes/", user).connect() == CLOSE_FORBIDDEN


async def test_a_node_that_joins_is_told_to_its_owner_and_to_nobody_else(own_database: str) -> None:
    owner, other = await sync_to_async(user_make)(), await sync_to_async(user_make)()
    mine, others = WebSocket("/ws/nodes/", owner), WebSocket("/ws/nodes/", other)
    assert (await mine.connect(), await others.connect()) == (None, None)
    await mine.send(text="{")

    def join() -> None:
        _, text = join_token_create(owner=owner, lifetime_seconds=600)
        key = PrivateKey.generate()
        node_register(message=RegistrationRequest.model_validate(registration_make(secret=join_token_decode(text).secret, key=key)))

    await sync_to_async(join)()
    assert await mine.receive() == {"kind": "nodes.changed"}
    assert await others.receive_nothing()
    for socket in (mine, others):
        await socket.disconnect()


async def test_what_happens_to_its_own_replica_is_told_and_nothing_about_another(own_database: str) -> None:
    owner = await sync_to_async(user_make)()
    node = (await sync_to_async(node_make)(owner))[0]
    job = await sync_to_async(job_make)(verification={"method": "exact", "copies": 2, "quorum": 2})
    await sync_to_async(outbox_push)()
    socket = WebSocket("/ws/nodes/", owner)
    assert await socket.connect() is None
    await sync_to_async(replica_lease)(job)  # to somebody else's node
    await sync_to_async(outbox_push)()
    assert await socket.receive_nothing()
    await sync_to_async(replica_lease)(job, node)
    await sync_to_async(outbox_push)()
    assert await socket.receive() == {"kind": "nodes.changed"}
    await socket.disconnect()


def test_without_redis_nothing_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    layer = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}},
    }
    with override_settings(CHANNEL_LAYERS=layer):
        nodes_changed([1])
    assert "no page was told" in caplog.text
