"""Reads of nodes."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q, QuerySet

from nodes.models import Node, NodeKey
from people.models import User
from workers.protocol.keys import PublicKey


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
