"""Telling an owner's open pages that something about their nodes changed. What changed they read again; losing a nudge loses only time."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

log = logging.getLogger(__name__)

NODES_WATCHED_GROUP: Final = "nodes.watched"
"""The group of everybody who watches nodes. Nothing is sent to it; that it is empty saves asking whose nodes an event is about."""


def nodes_group(owner_id: int) -> str:
    """The Channels group of those who watch this owner's nodes: the owner."""
    return f"nodes.{owner_id}"


def nodes_changed(owner_ids: Iterable[int]) -> None:
    """To be called after the commit. While Redis is away, pages find out by asking."""
    try:
        async_to_sync(_send)(sorted(set(owner_ids)))
    except (redis.RedisError, OSError) as error:
        log.warning("no page was told of a change of nodes: %s", error)


async def _send(owner_ids: list[int]) -> None:
    layer = get_channel_layer()
    if layer is not None:
        for owner_id in owner_ids:
            await layer.group_send(nodes_group(owner_id), {"type": "nodes.changed"})
