"""What moderators' search boxes find of nodes and keys, each by an index (people/moderation/finding.py)."""

from __future__ import annotations

from uuid import UUID

from nodes.models import Node, NodeKey
from people.moderation.finding import FOUND_MAX, people_called, uuid_of


def nodes_named(text: str) -> list[UUID]:
    """With this id, or whose name begins so."""
    named = list(Node.objects.filter(name__startswith=text).values_list("pk", flat=True)[:FOUND_MAX])
    return [*named, found] if (found := uuid_of(text)) else named


def nodes_of_people(text: str) -> list[UUID]:
    """Of people of this name or address."""
    return list(Node.objects.filter(owner__in=people_called(text)).values_list("pk", flat=True)[:FOUND_MAX])


def keys_beginning(text: str) -> list[str]:
    """Key ids that begin so, with or without `sha256:`."""
    prefix = "sha256:" + text.lower().removeprefix("sha256:")
    return list(NodeKey.objects.filter(key_id__startswith=prefix).values_list("pk", flat=True)[:FOUND_MAX])


def nodes_of_keys(text: str) -> list[UUID]:
    """That have or had a key whose id begins so."""
    return list(NodeKey.objects.filter(pk__in=keys_beginning(text)).values_list("node_id", flat=True))
