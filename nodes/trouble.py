"""Telling owners that a node of theirs is in trouble."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from nodes.models import Node, NodeState
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write

SILENT_AFTER: Final = timedelta(hours=1)
SETTLED_AFTER: Final = timedelta(minutes=30)
"""A host that found no portal asks again within minutes."""
LOOKED_FOR: Final = timedelta(hours=2)
"""A node that fell silent longer ago was told of, or went while nobody looked; then it is no news any more."""


def trouble_tell(node: Node, *, about: str, subject: str, text: str) -> None:
    """Tells the owner, once for each `about` of a node."""
    notifications_write([_draft(node, about, subject, text)])


def nodes_silent_tell(*, now: datetime, heard_since: datetime | None) -> int:
    """Tells owners of active nodes that have been silent for an hour; returns of how many. Idempotent: once for each silence.

    `heard_since`: when the portal could be heard again after its last outage; None: there was none. For SETTLED_AFTER from then on nobody
    is told: it was the portal that was silent, and nodes are on their way back.
    """
    if heard_since is not None and now - heard_since < SETTLED_AFTER:
        return 0
    gone = Node.objects.filter(
        state=NodeState.ACTIVE, last_seen_at__lte=now - SILENT_AFTER, last_seen_at__gt=now - SILENT_AFTER - LOOKED_FOR
    )
    text = "It was last heard of at {:%Y-%m-%d %H:%M} UTC. `nexa status` on it says why; if that is as you want, nothing need be done."
    drafts = [
        _draft(node, f"silent:{node.last_seen_at:%Y%m%d%H%M%S}", f"{node.name} has been silent for an hour", text.format(node.last_seen_at))
        for node in gone.only("owner_id", "name", "last_seen_at").order_by("pk")
    ]
    return len(notifications_write(drafts))


def _draft(node: Node, about: str, subject: str, text: str) -> Draft:
    kind = NotificationKind.NODE_TROUBLE
    data = {"node": str(node.pk), "name": node.name, "about": about.partition(":")[0]}
    return Draft(node.owner_id, kind, f"node:{node.pk}:{about}", subject, "/nodes/", text, data)
