"""Reads of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from nodes.models import JoinToken, Node, NodeKey, NodeSample, NodeState
from people.models import User
from workers.protocol.keys import PublicKey
from workers.protocol.version import version_is_older

SAMPLE_FRESH_SECONDS: Final = 180
"""A sample this old still tells what a machine does now."""


def node_key(*, key_id: str) -> NodeKey | None:
    """The key, retired ones too, with its node and the node's owner fetched along. None if it never was a node's."""
    return NodeKey.objects.select_related("node__owner").filter(key_id=key_id).first()


def node_public_key(*, node: Node, key_id: str) -> PublicKey:
    """The public half of the key `key_id` if it is or was this node's; else that of the node's current key, which then fails to verify."""
    if key_id != node.key_id:
        retired = node.keys.filter(key_id=key_id).first()
        if retired is not None:
            return PublicKey(bytes(retired.public_key))
    return PublicKey(bytes(node.public_key))


def node_of(*, owner: User, node_id: UUID) -> Node | None:
    """The node with this id if it is `owner`'s, revoked ones too; else None, whoever else may have it."""
    return Node.objects.filter(owner=owner, pk=node_id).first()


def upgrade_advised(node: Node) -> str:
    """The host software that the node's owner is advised to install; empty where the host has it, or doesn't say what it has."""
    found = str(node.profile.get("software_version", ""))
    return settings.NEXA_HOST_VERSION if version_is_older(found, settings.NEXA_HOST_VERSION) else ""


def nodes_of(*, owner: User, after: UUID | None = None, limit: int = 100) -> list[Node]:
    """The nodes of `owner`, oldest first, at most `limit`, those behind the node `after`; revoked ones too.

    An `after` that isn't the owner's gives none.
    """
    nodes: QuerySet[Node] = Node.objects.filter(owner=owner).order_by("created_at", "pk")
    if after is not None:
        anchor = node_of(owner=owner, node_id=after)
        if anchor is None:
            return []
        nodes = nodes.filter(Q(created_at__gt=anchor.created_at) | Q(created_at=anchor.created_at, pk__gt=anchor.pk))
    return list(nodes[:limit])


def nodes_newest(*, owner: User, are_revoked: bool, limit: int) -> tuple[list[Node], int]:
    """Those nodes of `owner` that are revoked, or those that are not: newest first, at most `limit`; and how many older ones there are."""
    nodes = Node.objects.filter(Q(owner=owner), Q(state=NodeState.REVOKED) if are_revoked else ~Q(state=NodeState.REVOKED))
    newest = list(nodes.order_by("-created_at", "-pk")[: limit + 1])
    return newest[:limit], nodes.count() - limit if len(newest) > limit else 0


def join_token_of(*, owner: User, token_id: int) -> JoinToken | None:
    """The join token with this id if it is `owner`'s, its node fetched along; else None."""
    return JoinToken.objects.select_related("node").filter(owner=owner, pk=token_id).first()


def join_tokens_waiting(*, owner: User, now: datetime, limit: int) -> list[JoinToken]:
    """The owner's join tokens that a host may still use, newest first, at most `limit`."""
    return list(JoinToken.objects.filter(owner=owner, used_at=None, expires_at__gt=now).order_by("-created_at", "-pk")[:limit])


def keys_of(*, node: Node) -> list[NodeKey]:
    """The node's keys, the present one first, then those before it, newest first."""
    return list(node.keys.order_by("-created_at", "key_id"))


def samples_newest(*, nodes: Sequence[Node], now: datetime) -> dict[UUID, NodeSample]:
    """The newest sample of each of these nodes that is at most SAMPLE_FRESH_SECONDS old. One statement."""
    fresh = NodeSample.objects.filter(node__in=[node.pk for node in nodes], minute_at__gte=now - timedelta(seconds=SAMPLE_FRESH_SECONDS))
    return {sample.node_id: sample for sample in fresh.order_by("minute_at")}


def samples_of(*, node: Node, since: datetime) -> list[NodeSample]:
    """What the node's machine did since then, oldest first: a sample a minute, none where nothing was heard."""
    return list(NodeSample.objects.filter(node=node, minute_at__gte=since).order_by("minute_at"))
