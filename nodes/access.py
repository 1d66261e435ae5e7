"""Whose node it is: what every address of one node asks first, of the API and of pages."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404

from nodes import selectors
from nodes.models import Node
from people.models import User


def node_or_404(*, owner: User, node_id: UUID) -> Node:
    """The node if it is `owner`'s, a revoked one too; another's is answered like what isn't there. Raises Http404."""
    node = selectors.node_of(owner=owner, node_id=node_id)
    if node is None:
        raise Http404("You have no node with this id.")
    return node
