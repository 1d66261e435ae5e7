"""WebSockets: one job's events for its owner, nudges about an owner's nodes, and for anyone that something happened."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Final
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.urls import path

from jobs.models import Job
from jobs.services.outbox import FLEET_GROUP, job_group
from nodes.nudges import NODES_WATCHED_GROUP, nodes_group

CLOSE_FORBIDDEN = 4403
"""Not signed in, not the owner, or no such job: which of them is not told."""
BETWEEN_FRAMES_SECONDS: Final = 0.5
"""Of the fleet's socket: what happens meanwhile goes into one frame."""


class JobConsumer(AsyncJsonWebsocketConsumer):
    """Events of one job as they are pushed, to its owner. What came before is read from the API; nothing is accepted from the browser."""

    async def connect(self) -> None:
        job_id = self.scope["url_route"]["kwargs"]["job_id"]
        user = self.scope.get("user")
        if user is None or not user.is_authenticated or not await _is_owner(job_id, user.pk):
            await self.close(code=CLOSE_FORBIDDEN)
            return
        self.groups = [job_group(job_id)]
        await self.channel_layer.group_add(job_group(job_id), self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignores what a browser sends, readable or not."""

    async def job_events(self, message: dict[str, Any]) -> None:
        for event in message["events"]:
            await self.send_json(event)


class NodesConsumer(AsyncJsonWebsocketConsumer):
    """Says to the owner of nodes that one joined, took work, delivered or was paid. Which and what, the page reads."""

    async def connect(self) -> None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(code=CLOSE_FORBIDDEN)
            return
        self.groups = [nodes_group(user.pk), NODES_WATCHED_GROUP]
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignores what a browser sends, readable or not."""

    async def nodes_changed(self, message: dict[str, Any]) -> None:
        await self.send_json({"kind": "nodes.changed"})


class FleetConsumer(AsyncJsonWebsocketConsumer):
    """Tells anybody that something happened, and to how many jobs: `{"events": 12}`, at most twice a second whatever happens."""

    groups = [FLEET_GROUP]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moved = 0
        self._told_at = -math.inf
        self._telling: asyncio.Task[None] | None = None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignores what a browser sends, readable or not."""

    async def fleet_moved(self, message: dict[str, Any]) -> None:
        self._moved += message["events"]
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def disconnect(self, code: int) -> None:
        if self._telling is not None:
            self._telling.cancel()

    async def _tell(self) -> None:
        await asyncio.sleep(max(0.0, self._told_at + BETWEEN_FRAMES_SECONDS - time.monotonic()))
        moved, self._moved, self._told_at = self._moved, 0, time.monotonic()
        self._telling = None
        await self.send_json({"events": moved})


@database_sync_to_async
def _is_owner(job_id: UUID, user_id: int) -> bool:
    return Job.objects.filter(pk=job_id, owner=user_id).exists()


websocket_urlpatterns = [
    path("ws/jobs/<uuid:job_id>/", JobConsumer.as_asgi()),  # type: ignore[arg-type]  # Channels routes applications by path()
    path("ws/nodes/", NodesConsumer.as_asgi()),  # type: ignore[arg-type]  # as above
    path("ws/fleet/", FleetConsumer.as_asgi()),  # type: ignore[arg-type]  # as above
]
